"""A LoRA adapter as a GGUF file of float32 tensors, as ``--lora`` of llama.cpp takes it.

Devices write one into memory to hand it to llama.cpp; so there is no library here but numpy.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian; keys:
llama-adapter.cpp in https://github.com/ggml-org/llama.cpp.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import IO

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError

Array = NDArray[np.float32]

_ALIGNMENT = 32
_VERSION = 3
_F32, _STRING = 0, 8  # the tensor's type; the value's, of which a number of 32 bits is 6
_FLOAT = 6


def write_gguf_adapter(
    file: IO[bytes],
    architecture: str,
    shapes: Mapping[str, Sequence[int]],
    values: Callable[[str], Array],
) -> None:
    """Write an adapter whose scale is part of B: an alpha of 0 means a scale of 1 there.

    Args:
        file: open for writing, at its beginning.
        architecture: ``general.architecture`` of the base's file.
        shapes: by the tensor's name, ``{weight}.lora_a`` (rank, in) and ``{weight}.lora_b`` (out,
            rank), in the order in which they are written.
        values: makes a tensor's numbers, of that shape; they are asked for one at a time.

    Raises:
        MalformedError: a tensor is of another shape than was said.
        OSError: the file can't be written.
    """
    keys: list[tuple[str, str | float]] = [
        ("general.architecture", architecture),
        ("general.type", "adapter"),
        ("adapter.type", "lora"),
        ("adapter.lora.alpha", 0.0),
    ]
    head = bytearray(b"GGUF" + struct.pack("<IQQ", _VERSION, len(shapes), len(keys)))
    for key, value in keys:
        head += _text(key)
        if isinstance(value, str):
            head += struct.pack("<I", _STRING) + _text(value)
        else:
            head += struct.pack("<If", _FLOAT, value)
    offset = 0
    for name, shape in shapes.items():
        head += _text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape))  # the fastest first
        head += struct.pack("<IQ", _F32, offset)
        offset += _padded(4 * prod(shape))
    file.write(head.ljust(_padded(len(head)), b"\0"))
    for name, shape in shapes.items():
        stored = np.ascontiguousarray(values(name), dtype="<f4")
        if stored.shape != tuple(shape):
            raise MalformedError(
                f"{name} has the shape {list(stored.shape)}; {list(shape)} was said."
            )
        file.write(stored.data)
        file.write(bytes(_padded(stored.nbytes) - stored.nbytes))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
