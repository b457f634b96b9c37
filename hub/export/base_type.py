"""In which types a base's matrices can be stored in a file of an engine."""

from enum import StrEnum


class BaseType(StrEnum):
    """As the command line and file names spell them."""

    F32 = "f32"
    F16 = "f16"
    Q8_0 = "q8_0"  # 8.5 bits a parameter
    Q4_0 = "q4_0"  # 4.5 bits
    Q4_K_M = "q4_k_m"  # 4.8 bits, which matrix gets how many by llama.cpp's own rules
    Q4 = "q4"  # 5 bits: the numbers of Q4_0, scales in float32


#: What each format has.
GGUF_TYPES = (BaseType.F16, BaseType.Q8_0, BaseType.Q4_0, BaseType.Q4_K_M)
ONNX_TYPES = (BaseType.F32, BaseType.F16, BaseType.Q4)
