"""Blobs in chunks: header, ranges and bitmap. Pure: no I/O, no clock, no MQTT.

The receiver knows what it lacks and says so (`Bitmap.missing`); the sender (`wire.upload`) has at
most a window of that under way. An acknowledgement of the broker counts for nothing, so loss,
repetition, reordering and a restart on either side are all one case: what is still missing is
sent again.
"""

import re
import struct
import zlib
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from wire.errors import MalformedError, TooLargeError

#: With its header well under AWS IoT Core's limit of 128 KB a message.
CHUNK_BYTES = 64 * 1024
#: Chunks under way at a time; AWS IoT Core allows 100 unacknowledged messages.
WINDOW = 8
#: Larger windows are cut to this, whatever a peer says.
MAX_WINDOW = 64
#: No blob is larger: its bitmap must fit in memory.
MAX_BLOB_BYTES = 2**36

Ranges = list[tuple[int, int]]

_MAGIC = b"LKC1"


class HeaderField(msgspec.Struct, frozen=True):
    """A part of a chunk's header; ``format`` is that of Python's ``struct``, big-endian."""

    name: str
    format: str
    meaning: str
    const: str = ""  # what always stands there, in ASCII


#: What stands before a chunk's data.
HEADER = (
    HeaderField("magic", f"{len(_MAGIC)}s", "tells a chunk of this format", _MAGIC.decode()),
    HeaderField("key", "8s", "the first 8 bytes of the blob's sha256"),
    HeaderField("index", "I", "of the chunk, from 0"),
    HeaderField("offset", "Q", f"in the blob: index × {CHUNK_BYTES}"),
    HeaderField("crc32", "I", "CRC-32 (ISO 3309, as in zlib) of the data"),
)
_HEADER = struct.Struct(">" + "".join(field.format for field in HEADER))
HEADER_BYTES = _HEADER.size
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Chunk(msgspec.Struct, frozen=True):
    """One piece of a blob; ``key`` is the first eight bytes of the blob's sha256."""

    #: Quality of service by route. What a device sends is asked for again by what it lacks, so the
    #: broker need not acknowledge it; a broadcast is paced by those acknowledgements.
    QOS: ClassVar[dict[str, int]] = {"slice_chunk": 1, "upload_chunk": 0, "repair_chunk": 1}
    ROUTES: ClassVar[tuple[str, ...]] = tuple(QOS)
    RETAIN: ClassVar[bool] = False
    SINCE: ClassVar[int] = 1

    key: bytes
    index: int
    offset: int
    data: bytes | memoryview
    checksum: int  # CRC32 of the data


def check_sha256(sha256: str) -> str:
    """Return a digest as it was given.

    Raises:
        MalformedError: it isn't 64 lower-case hexadecimal digits.
    """
    if not _SHA256.match(sha256):
        raise MalformedError(f"sha256 is {sha256[:80]!r}; it must be 64 digits of 0-9 and a-f.")
    return sha256


def chunk_count(size_bytes: int) -> int:
    """Return the number of chunks of a blob.

    Raises:
        MalformedError: the size is negative.
        TooLargeError: it exceeds `MAX_BLOB_BYTES`.
    """
    if size_bytes < 0:
        raise MalformedError(f"a blob's size is {size_bytes} bytes; it can't be negative.")
    if size_bytes > MAX_BLOB_BYTES:
        raise TooLargeError(f"a blob has {size_bytes} bytes; at most {MAX_BLOB_BYTES} are taken.")
    return -(-size_bytes // CHUNK_BYTES)


def chunk_size(size_bytes: int, index: int) -> int:
    """Return the size in bytes of one chunk: full, but for the last one.

    Raises:
        MalformedError: the blob has no such chunk.
    """
    count = chunk_count(size_bytes)
    if not 0 <= index < count:
        raise MalformedError(f"chunk {index} of a blob of {count} chunks; count from 0.")
    return min(CHUNK_BYTES, size_bytes - index * CHUNK_BYTES)


def encode_chunk(sha256: str, index: int, data: bytes) -> bytes:
    """Return a chunk with its header.

    Args:
        sha256: of the whole blob, 64 hexadecimal digits.
        index: counted from 0.
        data: 1 to `CHUNK_BYTES` bytes.

    Raises:
        MalformedError: the digest or the index is impossible, or there are no data.
        TooLargeError: more than one chunk's data.
    """
    key = bytes.fromhex(check_sha256(sha256))[:8]
    if not 0 <= index < chunk_count(MAX_BLOB_BYTES):
        raise MalformedError(f"chunk {index} can't be; a blob has at most {MAX_BLOB_BYTES} bytes.")
    _check_data(len(data))
    return _HEADER.pack(_MAGIC, key, index, index * CHUNK_BYTES, zlib.crc32(data)) + data


def decode_chunk(payload: bytes) -> Chunk:
    """Return a chunk whose header and checksum were checked.

    Raises:
        TooLargeError: more than a header and `CHUNK_BYTES`; nothing was parsed.
        MalformedError: not a chunk, a header that contradicts itself, or damaged data.
    """
    _check_data(len(payload) - HEADER_BYTES)
    magic, key, index, offset, checksum = _HEADER.unpack_from(payload)
    if magic != _MAGIC:
        raise MalformedError(f"a chunk begins with {magic!r}; {_MAGIC!r} is expected.")
    if offset != index * CHUNK_BYTES or offset >= MAX_BLOB_BYTES:
        raise MalformedError(
            f"chunk {index} says it lies at byte {offset}; it must be {index * CHUNK_BYTES} "
            f"and below {MAX_BLOB_BYTES}."
        )
    data = memoryview(payload)[HEADER_BYTES:]  # a copy would cost as much as the checksum
    if zlib.crc32(data) != checksum:
        raise MalformedError(f"chunk {index} was damaged on its way: CRC32 differs.")
    return Chunk(key, index, offset, data, checksum)


def _check_data(size_bytes: int) -> None:
    if size_bytes < 1:
        raise MalformedError(
            f"a chunk needs {HEADER_BYTES} bytes of header and at least 1 of data."
        )
    if size_bytes > CHUNK_BYTES:
        raise TooLargeError(f"a chunk has {size_bytes} bytes of data; at most {CHUNK_BYTES}.")


def ranges(chosen: Iterable[int]) -> Ranges:
    """Return indices as ascending [first, count] ranges that don't touch."""
    found: Ranges = []
    for index in sorted(set(chosen)):
        if found and index == sum(found[-1]):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found


def indices(wanted: Ranges, count: int, limit: int) -> list[int]:
    """Return the first ``limit`` indices of ranges that a peer sent.

    Args:
        wanted: [first, count] pairs, ascending.
        count: chunks of the blob; every index must be below.

    Raises:
        MalformedError: a range is empty, out of bounds or overlaps the one before.
    """
    chosen: list[int] = []
    at = 0
    for first, length in wanted:
        if first < at or length < 1 or first + length > count:
            raise MalformedError(
                f"range of chunks {(first, length)} after {at} in a blob of {count} chunks; "
                "ranges must ascend, not overlap and stay inside."
            )
        at = first + length
        chosen.extend(range(first, min(at, first + max(0, limit - len(chosen)))))
    return chosen


class Bitmap:
    """Which chunks of a blob are here: one bit each, lowest bit first.

    Args:
        count: chunks of the blob.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.held = 0
        self._bits = bytearray(-(-count // 8))

    @classmethod
    def from_bytes(cls, data: bytes, count: int) -> "Bitmap":
        """Read what `to_bytes` wrote.

        Raises:
            MalformedError: the length doesn't fit ``count``, or a bit beyond it is set.
        """
        bitmap = cls(count)
        if len(data) != len(bitmap._bits):
            raise MalformedError(
                f"a bitmap has {len(data)} bytes; {count} chunks need {len(bitmap._bits)}."
            )
        if data and count % 8 and data[-1] >> (count % 8):
            raise MalformedError(f"a bitmap claims chunks beyond the last of {count}.")
        bitmap._bits[:] = data
        bitmap.held = sum(byte.bit_count() for byte in data)
        return bitmap

    def to_bytes(self) -> bytes:
        """Return the bits; chunk 0 is the lowest bit of the first byte."""
        return bytes(self._bits)

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.count and bool(self._bits[index // 8] >> (index % 8) & 1)

    def add(self, index: int) -> bool:
        """Note that a chunk is here; return whether that is news.

        Raises:
            MalformedError: the blob has no such chunk.
        """
        if not 0 <= index < self.count:
            raise MalformedError(f"chunk {index} of a blob of {self.count} chunks; count from 0.")
        if index in self:
            return False
        self._bits[index // 8] |= 1 << (index % 8)
        self.held += 1
        return True

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.held == self.count

    def missing(self, limit: int | None = None) -> Ranges:
        """Return the first ``limit`` chunks that aren't here, as ranges; None: all of them."""
        absent: list[int] = []
        for at, byte in enumerate(self._bits):
            if byte == 0xFF:
                continue
            absent += [i for i in range(at * 8, min(at * 8 + 8, self.count)) if i not in self]
            if limit is not None and len(absent) >= limit:
                return ranges(absent[:limit])
        return ranges(absent)
