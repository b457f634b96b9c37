"""What a GGUF file says of a model, and where its tensors stand; no tensor is read.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
A vocabulary is walked over and not built, so a supervisor may read any model's header.
"""

import io
import math
import os
import struct
from collections.abc import Container
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from wire.errors import MalformedError

#: A header with a vocabulary of 262,144 tokens and its merges takes about 15 MB.
MAX_HEADER_BYTES = 256 * 1024 * 1024
_MAX_TENSORS = 100_000
_MAX_ENTRIES = 65_536
_MAX_NAME_BYTES = 65_535  # of a key, by the specification; a tensor's has at most 64
_MAX_KEPT_BYTES = 1024 * 1024  # of a string or an array; longer ones are walked over
_MAX_DIMENSIONS = 4
_MAX_STRINGS = 2**22  # in one array
_BUFFER_BYTES = 64 * 1024

_STRING, _ARRAY = 8, 9
#: struct's letter of each kind of value, by the number that stands for it in the file.
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
#: Name, numbers in a block and bytes of a block of the types that files have (ggml_type in ggml.h).
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


class GgufTensor(msgspec.Struct, frozen=True):
    """Where a tensor's numbers stand in its file."""

    kind: str  # as ggml spells it: F16, Q4_0, ...
    shape: tuple[int, ...]  # the longest stride first, as numpy has it; the file has it reversed
    start: int  # of its first byte in the file
    size_bytes: int


class GgufHeader(msgspec.Struct, frozen=True):
    """A file's metadata and its tensors."""

    metadata: dict[str, Any]  # numbers, truths and strings, and the arrays that are kept
    lengths: dict[str, int]  # of every array, kept or not
    tensors: dict[str, GgufTensor]


def read_header(path: Path, arrays: Container[str] = ()) -> GgufHeader:
    """Return a file's header, every tensor checked to lie inside the file.

    Args:
        path: of the file.
        arrays: keys whose arrays are built however long they are. Of the others, arrays of numbers
            are kept up to 1 MiB and arrays of strings are walked over.

    Raises:
        MalformedError: it isn't such a file, it was cut short, or it says something impossible.
        OSError: it can't be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        cursor = _Cursor(file, path.name, min(size_bytes, MAX_HEADER_BYTES))
        _check_version(cursor, path.name)
        tensor_count, entry_count = cursor.number("Q"), cursor.number("Q")
        if tensor_count > _MAX_TENSORS or entry_count > _MAX_ENTRIES:
            raise MalformedError(
                f"{path.name} claims {tensor_count} tensors and {entry_count} entries."
            )
        metadata, lengths = _read_metadata(cursor, entry_count, arrays)
        infos = [_read_info(cursor) for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 2**20 or alignment & (alignment - 1):
            raise MalformedError(f"{path.name}: general.alignment is {alignment!r}.")
        body = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in infos:
        if name in tensors:
            raise MalformedError(f"{path.name} names the tensor {name[:200]!r} twice.")
        if offset % alignment:
            raise MalformedError(
                f"{path.name}: {name[:200]!r} stands at {offset}, no multiple of {alignment}."
            )
        tensors[name] = _placed(path.name, name, shape, kind, body + offset)
        if tensors[name].start + tensors[name].size_bytes > size_bytes:
            raise MalformedError(f"{path.name} was cut short; fetch it again.")
    return GgufHeader(metadata, lengths, tensors)


class _Cursor:
    """Reads a file from its beginning, never further than a limit."""

    def __init__(self, file: BinaryIO, name: str, limit: int) -> None:
        self.position = 0
        self.name = name
        self._file = file
        self._limit = limit

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        self.position += size
        if self.position > self._limit:
            raise MalformedError(f"{self.name} was cut short, or its header is impossibly long.")
        data = self._file.read(size)
        if len(data) != size:  # the file shrank
            raise MalformedError(f"{self.name} was cut short; fetch it again.")
        return data

    def skip(self, size: int) -> None:
        """Leave out the next bytes."""
        if size <= io.DEFAULT_BUFFER_SIZE:
            self.take(size)  # cheaper than to seek
            return
        self.position += size
        if self.position > self._limit:
            raise MalformedError(f"{self.name} was cut short, or its header is impossibly long.")
        self._file.seek(size, os.SEEK_CUR)

    def number(self, letter: str) -> Any:
        """Return the next number, of the kind that struct calls `letter`."""
        layout = struct.Struct("<" + letter)
        return layout.unpack(self.take(layout.size))[0]

    def length(self) -> int:
        """Return the next length of eight bytes."""
        return int.from_bytes(self.take(8), "little")

    def name_of(self) -> str:
        """Return the next string, which names a key or a tensor."""
        size = self.length()
        if size > _MAX_NAME_BYTES:
            raise MalformedError(f"{self.name} has a name of {size} bytes.")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise MalformedError(f"{self.name} has a name that is no UTF-8.") from error


def _check_version(cursor: _Cursor, name: str) -> None:
    if cursor.take(4) != b"GGUF":
        raise MalformedError(f"{name} is not a GGUF file.")
    version = cursor.number("I")
    if version not in (2, 3):
        hint = " It is big-endian." if version in (2 << 24, 3 << 24) else ""
        raise MalformedError(f"{name} has GGUF version {version}; known are 2 and 3.{hint}")


def _read_metadata(
    cursor: _Cursor, count: int, arrays: Container[str]
) -> tuple[dict[str, Any], dict[str, int]]:
    metadata: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(count):
        key = cursor.name_of()
        if key in metadata or key in lengths:
            raise MalformedError(f"{cursor.name} has the key {key[:200]!r} twice.")
        kind = cursor.number("I")
        if kind == _ARRAY:
            lengths[key], values = _read_array(cursor, key in arrays)
            if values is not None:
                metadata[key] = values
        elif kind == _STRING:
            text = _read_string(cursor)
            if text is not None:
                metadata[key] = text
        elif kind in _SCALARS:
            metadata[key] = cursor.number(_SCALARS[kind])
        else:
            raise MalformedError(f"{cursor.name}: {key[:200]!r} is of the unknown kind {kind}.")
    return metadata, lengths


def _read_string(cursor: _Cursor, limit: int = _MAX_KEPT_BYTES) -> str | None:
    size = cursor.length()
    if size > limit:
        cursor.skip(size)
        return None
    return cursor.take(size).decode(errors="replace")


def _read_array(cursor: _Cursor, wanted: bool) -> tuple[int, list[Any] | None]:
    """Return an array's length, and what is in it unless that is walked over."""
    kind, count = cursor.number("I"), cursor.length()
    if kind == _STRING:
        if count > _MAX_STRINGS:
            raise MalformedError(f"{cursor.name} has an array of {count} strings.")
        if wanted:
            return count, [_read_string(cursor) or "" for _ in range(count)]
        for _ in range(count):
            cursor.skip(cursor.length())
        return count, None
    if kind not in _SCALARS:
        raise MalformedError(f"{cursor.name} has an array of the kind {kind}.")
    size_bytes = count * struct.calcsize("<" + _SCALARS[kind])
    if size_bytes > _MAX_KEPT_BYTES and not wanted:
        cursor.skip(size_bytes)
        return count, None
    # Taken before it is unpacked: a count that the file has no bytes for is refused there.
    return count, list(struct.unpack(f"<{count}{_SCALARS[kind]}", cursor.take(size_bytes)))


def _read_info(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Return a tensor's name, shape, number of its type, and offset from the first tensor."""
    name = cursor.name_of()
    dimensions = cursor.number("I")
    if dimensions > _MAX_DIMENSIONS:
        raise MalformedError(f"{cursor.name}: {name[:200]!r} has {dimensions} dimensions.")
    shape = tuple(cursor.length() for _ in range(dimensions))[::-1]
    return name, shape, cursor.number("I"), cursor.length()


def _placed(file: str, name: str, shape: tuple[int, ...], kind: int, start: int) -> GgufTensor:
    known = _TYPES.get(kind)
    if known is None:
        raise MalformedError(f"{file}: {name[:200]!r} is of ggml's type {kind}, unknown here.")
    spelt, block, block_bytes = known
    if any(not 0 < size < 2**40 for size in shape) or (shape[-1] if shape else 1) % block:
        raise MalformedError(f"{file}: {name[:200]!r} of {spelt} has the shape {list(shape)}.")
    return GgufTensor(spelt, shape, start, math.prod(shape) // block * block_bytes)
