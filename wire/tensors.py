"""Packed tensor sets: float32 tensors, compressed by a codec, one after another.

    bytes   what
    3 + 1   ``LKP``, and the version of this format, 2
    1 + n   the codec's name, its length in front
    4       CRC-32 of the names and shapes, little-endian
    then, for each tensor in the order of their names:
    1 - 5   the length of what follows, as an unsigned LEB128
    n       the tensor, as its codec writes it

Names and shapes don't travel, for both sides know them: with entropy-coded tensors of some hundred
bytes each, a header that names them would be as large as all the rest.

The reader walks over the lengths once, checks each against the codec's greatest size before it
reads a tensor, and expands one tensor at a time.
"""

import io
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import numpy as np

from wire.codecs import by_name
from wire.codecs.contract import Array, Codec, Shape
from wire.errors import MalformedError, TooLargeError

_MAGIC = b"LKP\x02"
_CHECK_BYTES = 4
#: Of a length: 35 bits.
_MOST_LENGTH_BYTES = 5


class _Span(NamedTuple):
    start: int
    size: int


def pack(tensors: Mapping[str, Array], codec: Codec, seed: int) -> bytes:
    """Return the tensors as one packed set; the same arguments give the same bytes.

    Args:
        tensors: finite float32 arrays by name.
        codec: compresses each one.
        seed: non-negative; with a tensor's name it fixes that tensor's rounding.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    file = io.BytesIO()
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_packed(file, shapes, tensors.__getitem__, codec, seed)
    return file.getvalue()


def write_packed(
    file: BinaryIO,
    shapes: Mapping[str, Shape],
    tensor_of: Callable[[str], Array],
    codec: Codec,
    seed: int,
) -> None:
    """Write a packed set, of which one tensor at a time is asked for.

    Args:
        file: to write to.
        shapes: of each tensor by name.
        tensor_of: returns a tensor by its name; called once for each, in the order of names.
        codec, seed: as for `pack`.

    Raises:
        ValueError: an entry is NaN or infinite.
    """
    writer = PackedWriter(file, shapes, codec, seed)
    for name in sorted(shapes):
        writer.add(name, tensor_of(name))


class PackedWriter:
    """Writes a packed set, of which one tensor at a time is given.

    Args:
        file: to write to.
        shapes: of each tensor by name.
        codec, seed: as for `pack`.
    """

    def __init__(
        self, file: BinaryIO, shapes: Mapping[str, Shape], codec: Codec, seed: int
    ) -> None:
        self._file = file
        self._codec = codec
        self._seed = seed
        file.write(_head(codec.name, shapes))

    def add(self, name: str, tensor: Array) -> None:
        """Append a tensor. Each is given once, in the order of names.

        Raises:
            ValueError: an entry is NaN or infinite.
        """
        tensor = np.asarray(tensor, dtype=np.float32)
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} has entries that are NaN or infinite; it can't be sent.")
        rng = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        data = self._codec.compress(tensor, rng)
        self._file.write(_length(len(data)))
        self._file.write(data)


def most_packed_bytes(expected: Mapping[str, Shape], codec: Codec) -> int:
    """Return the size of the greatest packed set of tensors of these shapes."""
    greatest = [codec.most_bytes(shape) for shape in expected.values()]
    return len(_head(codec.name, expected)) + sum(len(_length(n)) + n for n in greatest)


class PackedFile:
    """A packed set whose lengths were checked; tensors are read and expanded one at a time."""

    def __init__(
        self, file: BinaryIO, codec: Codec, expected: dict[str, Shape], spans: dict[str, _Span]
    ) -> None:
        self.codec = codec.name
        self._file = file
        self._codec = codec
        self._expected = expected
        self._spans = spans

    @classmethod
    def open(cls, source: Path | bytes, expected: Mapping[str, Shape]) -> Self:
        """Open a packed set that must hold exactly the expected tensors.

        Args:
            source: a file, from which only lengths are read now, or the bytes themselves.
            expected: shape of each tensor by name.

        Raises:
            TooLargeError: a tensor, or the file, is larger than the codec could make it.
            MalformedError: not a packed set, an unknown codec, other tensors than expected, or
                fewer bytes than it claims. Nothing was expanded.
        """
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        try:
            return cls._open(file, dict(expected))
        except BaseException:
            file.close()
            raise

    @classmethod
    def _open(cls, file: BinaryIO, expected: dict[str, Shape]) -> Self:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        codec = _read_codec(file)
        if file.read(_CHECK_BYTES) != _check(expected):
            raise MalformedError(
                f"a packed set is not of the {len(expected)} tensors that are expected here: names "
                "or shapes differ, or it was cut off."
            )
        spans: dict[str, _Span] = {}
        for name in sorted(expected):
            length = _read_length(file, name)
            most = codec.most_bytes(expected[name])
            if length > most:
                raise TooLargeError(f"{name} has {length} bytes; {codec.name} makes {most} of it.")
            start = file.tell()
            if size - start < length:
                raise MalformedError(
                    f"{name} has {size - start} of {length} bytes; it was cut off."
                )
            spans[name] = _Span(start, length)
            file.seek(start + length)
        if file.tell() != size:
            raise TooLargeError(f"a packed set has {size} bytes; its tensors end at {file.tell()}.")
        return cls(file, codec, expected, spans)

    def names(self) -> list[str]:
        """Return the tensors' names, sorted."""
        return sorted(self._expected)

    def __contains__(self, name: str) -> bool:
        return name in self._expected

    def get(self, name: str) -> Array:
        """Return one tensor, expanded; no other one is read.

        Raises:
            KeyError: it isn't one of `names`.
            MalformedError: its bytes are not the codec's, an entry is NaN or infinite, or the file
                shrank since it was opened.
        """
        shape, span = self._expected[name], self._spans[name]
        self._file.seek(span.start)
        data = self._file.read(span.size)
        if len(data) != span.size:
            raise MalformedError(f"{name} has {len(data)} of {span.size} bytes; it was cut off.")
        try:
            tensor = self._codec.expand(data, shape)
        except MalformedError as error:
            raise MalformedError(f"{name}: {error}") from error
        if not np.isfinite(tensor).all():
            raise MalformedError(f"{name} has entries that are NaN or infinite.")
        return tensor

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def reading(
    source: Path | bytes | None, expected: Mapping[str, Shape]
) -> Iterator[Callable[[str], Array]]:
    """Give what returns a tensor of a packed set by its name; without a set all are zeros.

    Raises:
        MalformedError: as `PackedFile.open`, and `PackedFile.get` when a tensor is asked for.
    """
    if source is None:
        yield lambda name: np.zeros(expected[name], dtype=np.float32)
        return
    with PackedFile.open(source, expected) as packed:
        yield packed.get


def _head(codec: str, shapes: Mapping[str, Shape]) -> bytes:
    name = codec.encode("ascii")
    return _MAGIC + bytes([len(name)]) + name + _check(shapes)


def _check(shapes: Mapping[str, Shape]) -> bytes:
    text = "\n".join(f"{name} {list(shapes[name])}" for name in sorted(shapes))
    return zlib.crc32(text.encode()).to_bytes(_CHECK_BYTES, "little")


def _read_codec(file: BinaryIO) -> Codec:
    magic = file.read(len(_MAGIC))
    if magic[:3] == _MAGIC[:3] and magic != _MAGIC:
        raise MalformedError(
            f"a packed set has version {magic[3:].hex() or 'none'}; this version reads "
            f"{_MAGIC[3:].hex()}. Update the older side."
        )
    if magic != _MAGIC:
        raise MalformedError(f"a packed set begins with {magic!r}; expected is {_MAGIC!r}.")
    length = file.read(1)
    name = file.read(length[0]) if length else b""
    return by_name(name.decode("ascii", errors="replace"))


def _length(value: int) -> bytes:
    """Return a length as an unsigned LEB128."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _read_length(file: BinaryIO, name: str) -> int:
    value = 0
    for at in range(_MOST_LENGTH_BYTES):
        byte = file.read(1)
        if not byte:
            raise MalformedError(f"a packed set ends before {name}; it was cut off.")
        value |= (byte[0] & 0x7F) << 7 * at
        if byte[0] < 0x80:
            return value
    raise TooLargeError(f"the length of {name} has more than {_MOST_LENGTH_BYTES} bytes.")
