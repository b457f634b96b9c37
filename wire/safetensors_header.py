"""What a ``.safetensors`` file holds and where, from its header alone: no tensor is read.

Source: the format's description at https://github.com/huggingface/safetensors#format.
"""

import math
from pathlib import Path
from typing import Any

import msgspec

from wire.errors import MalformedError

#: The format's own limit.
MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 16
#: Bits of one number, by the type's name in the header.
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


class StoredTensor(msgspec.Struct, frozen=True):
    """Where a tensor's numbers stand in its file."""

    dtype: str  # as the header spells it: BF16, F32, ...
    shape: tuple[int, ...]
    start: int  # of its first byte in the file
    size_bytes: int


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a file by name, checked to lie inside the file.

    Raises:
        MalformedError: it isn't a safetensors file, it was cut short, or a tensor's size is not
            what its type and shape make.
        OSError: it can't be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - _LENGTH_BYTES):
            raise MalformedError(f"{path.name} is not a safetensors file, or was cut short.")
        header = file.read(length)
    try:
        entries: dict[str, Any] = msgspec.json.decode(header, type=dict[str, Any])
        entries.pop("__metadata__", None)
        tensors = msgspec.convert(entries, dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{path.name} has a header that can't be read: {error}") from error
    body = _LENGTH_BYTES + length
    return {
        name: _placed(path, name, entry, body, size_bytes - body) for name, entry in tensors.items()
    }


def bytes_by_dtype(path: Path) -> dict[str, int]:
    """Return how many bytes a file holds of each type of number (``BF16``, ``F32``, ...).

    Raises:
        MalformedError: as `read_header`.
        OSError: it can't be read.
    """
    found: dict[str, int] = {}
    for tensor in read_header(path).values():
        found[tensor.dtype] = found.get(tensor.dtype, 0) + tensor.size_bytes
    return found


def _placed(path: Path, name: str, entry: _Entry, body: int, body_bytes: int) -> StoredTensor:
    start, end = entry.data_offsets
    if not 0 <= start <= end <= body_bytes:
        raise MalformedError(f"{path.name} was cut short; fetch it again.")
    bits = BITS.get(entry.dtype)
    if bits is None:
        raise MalformedError(f"{path.name}: {name[:200]!r} has the unknown type {entry.dtype!r}.")
    shape = tuple(entry.shape)
    if len(shape) > _MAX_DIMENSIONS or any(not 0 <= size < 2**48 for size in shape):
        raise MalformedError(f"{path.name}: {name[:200]!r} has an impossible shape.")
    if bits * math.prod(shape) != 8 * (end - start):
        raise MalformedError(
            f"{path.name}: {name[:200]!r} takes {end - start} bytes; "
            f"{entry.dtype} of shape {list(shape)} takes {bits * math.prod(shape) / 8:g}."
        )
    return StoredTensor(entry.dtype, shape, body + start, end - start)
