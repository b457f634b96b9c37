# Read by CMAKE_PROJECT_INCLUDE: an ordinary variable goes before the cache, in which
# llama-cpp-python forces ON. The Python package loads libllama alone.
foreach(part COMMON EXAMPLES SERVER TESTS TOOLS)
  set(LLAMA_BUILD_${part} OFF)
endforeach()
