"""In which types a base's matrices can be stored in an engine's file."""

from enum import StrEnum


class BaseType(StrEnum):
    """As the command line and file names spell them."""

    F32 = "f32"  # ONNX
    F16 = "f16"  # GGUF and ONNX
    Q8_0 = "q8_0"  # GGUF, 8.5 bits a parameter
    Q4_0 = "q4_0"  # GGUF, 4.5 bits
    Q4 = "q4"  # ONNX, 5 bits: the numbers of Q4_0, scales in float32
