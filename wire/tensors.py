"""Packed tensor sets: named float32 tensors, compressed by a codec, as safetensors bytes.

The format is safetensors' (https://huggingface.co/docs/safetensors): eight bytes with the length
of a JSON header, the header, the arrays one after another. A tensor ``name`` is stored as one
array ``name::part`` for each part of its codec; the metadata names the codec.

The reader checks every word of the header against what it expects before it reads an array, and
then reads the arrays itself at the offsets that it checked: a second parser could read the same
header otherwise.
"""

import io
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from wire.codecs import by_name
from wire.codecs.contract import Array, Codec, PartSpec, Shape
from wire.errors import MalformedError, TooLargeError

#: No header is larger, whatever is expected.
MAX_HEADER_BYTES = 4 * 1024 * 1024
#: Serves four parts with names of 255 characters each.
_HEADER_BYTES_PER_TENSOR = 2048
_LENGTH_BYTES = 8
_SEPARATOR = "::"
_METADATA = "__metadata__"
_VERSION = "1"
_DTYPES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint8): "U8",
    np.dtype(np.int16): "I16",
    np.dtype(np.uint16): "U16",
    np.dtype(np.int32): "I32",
    np.dtype(np.uint32): "U32",
}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lorikeet: str
    codec: str


def pack(tensors: Mapping[str, Array], codec: Codec, seed: int) -> bytes:
    """Return the tensors as one packed set; the same arguments give the same bytes.

    Args:
        tensors: finite float32 arrays by name.
        codec: compresses each one.
        seed: non-negative; with a tensor's name it fixes that tensor's rounding.

    Raises:
        ValueError: a name holds ``::``, or an entry is NaN or infinite.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name in sorted(tensors):
        if _SEPARATOR in name:
            raise ValueError(f"a tensor is named {name!r}; a name may not hold '{_SEPARATOR}'.")
        tensor = np.asarray(tensors[name], dtype=np.float32)
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} has entries that are NaN or infinite; it can't be sent.")
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        for part, array in codec.compress(tensor, rng).items():
            arrays[f"{name}{_SEPARATOR}{part}"] = np.ascontiguousarray(array).reshape(array.shape)
    return _in_order(save(arrays, {"lorikeet": _VERSION, "codec": codec.name}))


def _in_order(packed: bytes) -> bytes:
    """Return the same file with the keys of its header sorted.

    safetensors (0.8) writes metadata in the order of a hash map, another one in each process.
    """
    length = int.from_bytes(packed[:_LENGTH_BYTES], "little")
    header = msgspec.json.decode(packed[_LENGTH_BYTES : _LENGTH_BYTES + length])
    text = msgspec.json.encode(header, order="sorted")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + packed[_LENGTH_BYTES + length :]


class PackedFile:
    """A packed set whose header was checked; tensors are read and expanded one at a time."""

    def __init__(
        self, file: BinaryIO, codec: Codec, expected: dict[str, Shape], starts: dict[str, int]
    ) -> None:
        self.codec = codec.name
        self._file = file
        self._codec = codec
        self._expected = expected
        self._starts = starts  # absolute, by array name

    @classmethod
    def open(cls, source: Path | bytes, expected: Mapping[str, Shape]) -> Self:
        """Open a packed set that must hold exactly the expected tensors.

        Args:
            source: a file, from which only the header is read now, or the bytes themselves.
            expected: shape of each tensor by name.

        Raises:
            TooLargeError: the header or the file is larger than the expected tensors need.
            MalformedError: not a packed set, an unknown codec, or anything but the expected names,
                types, shapes and sizes. Nothing was expanded.
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
        limit = min(MAX_HEADER_BYTES, _HEADER_BYTES_PER_TENSOR * (2 + len(expected)))
        header = _read_header(file, size, limit)
        codec = _read_codec(header)
        specs = {
            f"{name}{_SEPARATOR}{part}": spec
            for name, shape in expected.items()
            for part, spec in codec.parts(shape).items()
        }
        _check_names(header, specs)
        body = file.tell()
        starts = _check_entries(header, specs, size - body)
        return cls(file, codec, expected, {name: body + at for name, at in starts.items()})

    def names(self) -> list[str]:
        """Return the tensors' names, sorted."""
        return sorted(self._expected)

    def get(self, name: str) -> Array:
        """Return one tensor, expanded; no other one is read.

        Raises:
            KeyError: it isn't one of `names`.
            MalformedError: an entry is NaN or infinite, or the file shrank since it was opened.
        """
        shape = self._expected[name]
        parts = {
            part: self._read(f"{name}{_SEPARATOR}{part}", spec)
            for part, spec in self._codec.parts(shape).items()
        }
        tensor = self._codec.expand(parts, shape)
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

    def _read(self, name: str, spec: PartSpec) -> NDArray[Any]:
        self._file.seek(self._starts[name])
        size = _bytes_of(spec)
        data = self._file.read(size)
        if len(data) != size:
            raise MalformedError(f"{name} has {len(data)} of {size} bytes; the file was cut off.")
        return np.frombuffer(data, dtype=spec.dtype.newbyteorder("<")).reshape(spec.shape)


def _bytes_of(spec: PartSpec) -> int:
    return int(np.prod(spec.shape, dtype=object)) * spec.dtype.itemsize


def _read_header(file: BinaryIO, size: int, limit: int) -> dict[str, msgspec.Raw]:
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > limit:
        raise TooLargeError(
            f"a packed set's header claims {length} bytes; at most {limit} are read here."
        )
    if size < _LENGTH_BYTES + length:
        raise MalformedError(
            f"a packed set has {size} bytes, its header claims {length}; it was cut off."
        )
    try:
        return msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"a packed set's header is not JSON as expected: {error}") from error


def _read_codec(header: dict[str, msgspec.Raw]) -> Codec:
    if _METADATA not in header:
        raise MalformedError("a packed set has no metadata; it must name its codec.")
    metadata = _decode(header[_METADATA], _Metadata, _METADATA)
    if metadata.lorikeet != _VERSION:
        raise MalformedError(
            f"a packed set has version {metadata.lorikeet!r}; this version reads {_VERSION!r}."
        )
    return by_name(metadata.codec)


def _check_names(header: dict[str, msgspec.Raw], specs: dict[str, PartSpec]) -> None:
    found = set(header) - {_METADATA}
    if missing := sorted(specs.keys() - found):
        raise MalformedError(f"a packed set lacks {len(missing)} arrays: {_some(missing)}.")
    if extra := sorted(found - specs.keys()):
        raise MalformedError(f"a packed set has {len(extra)} arrays too many: {_some(extra)}.")


def _check_entries(
    header: dict[str, msgspec.Raw], specs: dict[str, PartSpec], body_bytes: int
) -> dict[str, int]:
    """Return where each array starts, counted from the header's end."""
    spans: list[tuple[int, int, str]] = []
    for name, spec in specs.items():
        entry = _decode(header[name], _Entry, name)
        want = (_DTYPES[spec.dtype], list(spec.shape))
        if (entry.dtype, entry.shape) != want:
            raise MalformedError(
                f"{_short(name)} is {_short(entry.dtype)} {_short(entry.shape)}; "
                f"expected is {want[0]} {want[1]}."
            )
        spans.append((*entry.data_offsets, name))
    at = 0
    for start, end, name in sorted(spans):
        if start != at or end - start != _bytes_of(specs[name]):
            raise MalformedError(
                f"{name} lies at bytes {_short((start, end))}; expected are "
                f"{(at, at + _bytes_of(specs[name]))}: arrays follow one another without gaps."
            )
        at = end
    if body_bytes < at:
        raise MalformedError(f"a packed set has {body_bytes} of {at} bytes; it was cut off.")
    if body_bytes > at:
        raise TooLargeError(f"a packed set has {body_bytes} bytes of arrays; expected are {at}.")
    return {name: start for start, _, name in spans}


def _decode(raw: msgspec.Raw, kind: type[Any], name: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"a packed set's header at {_short(name)}: {error}") from error


def _some(names: list[str]) -> str:
    """Name the first few; the rest would only fill the log."""
    return ", ".join(_short(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
