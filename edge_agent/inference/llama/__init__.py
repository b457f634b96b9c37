"""llama.cpp, through the low-level calls of llama-cpp-python."""
