"""Files that a hub makes of a base for devices without torch: their names, and what reads them.

A base is named by the digest of its folder's files. A derived file carries that digest inside, so
that a device sees what it was made of, and has a digest of its own, by which it is fetched.
"""

from typing import NamedTuple


class DerivedType(NamedTuple):
    """One kind of file.

    Attributes:
        runtime: that reads it: ``llama.cpp`` or ``onnxruntime``.
        bits: of a weight in a matrix.
    """

    runtime: str
    bits: float


#: By name. In GGUF, 32 weights of Q8_0 and of Q4_0 share a float16 scale
#: (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); in ONNX, 32 of Q4 a float32 one.
DERIVED = {
    "gguf-f16": DerivedType("llama.cpp", 16),
    "gguf-q8_0": DerivedType("llama.cpp", 8.5),
    "gguf-q4_0": DerivedType("llama.cpp", 4.5),
    "onnx-f32": DerivedType("onnxruntime", 32),
    "onnx-f16": DerivedType("onnxruntime", 16),
    "onnx-q4": DerivedType("onnxruntime", 5),
}
#: What a hub makes unless it is told otherwise, the preferred one first.
USUAL = ("gguf-q8_0", "gguf-q4_0", "onnx-f16", "onnx-q4")
#: Names the base in a derived file's metadata: the sha256 of its manifest, hexadecimal.
BASE_KEY = "lorikeet.base.sha256"
