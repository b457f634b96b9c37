"""In which types a base's matrices can be stored in a GGUF file."""

from enum import StrEnum


class BaseType(StrEnum):
    """As the command line and file names spell them."""

    F16 = "f16"
    Q8_0 = "q8_0"  # 8.5 bits a parameter
    Q4_0 = "q4_0"  # 4.5 bits
