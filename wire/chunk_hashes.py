"""What each chunk of a blob must be: a list of digests, one for each chunk.

A blob is named by its sha256, which tells only at the end whether it is right. With the list, a
damaged or forged chunk is found as it arrives and asked for again by itself. The list comes from
whoever is trusted for the blob's name: an adapter's manifest, or the device that announces its own
upload. A blob of one chunk needs none: its name says it all.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from wire.errors import MalformedError
from wire.transfer import CHUNK_BYTES, chunk_count

#: Of a sha256, its first half: a second preimage still takes 2^128 attempts.
HASH_BYTES = 16
#: Longer lists don't stand in a message but travel as a blob of their own, before the blob that
#: they are of: 256 chunks are 16 MiB of blob, 4 KiB of list and 5.5 KB of JSON.
INLINE_CHUNKS = 256


def chunk_hash(data: bytes | memoryview) -> bytes:
    """Return a chunk's digest: the first 16 bytes of its sha256."""
    return hashlib.sha256(data).digest()[:HASH_BYTES]


def hash_list(chunks: Iterable[bytes]) -> bytes:
    """Return the list of a blob, given its chunks in order; empty for a blob of one chunk."""
    hashes = b"".join(chunk_hash(chunk) for chunk in chunks)
    return hashes if len(hashes) > HASH_BYTES else b""


def list_of(data: bytes) -> bytes:
    """Return the list of a blob that is in memory."""
    starts = range(0, len(data), CHUNK_BYTES)
    return hash_list(data[start : start + CHUNK_BYTES] for start in starts)


def list_of_file(path: Path) -> bytes:
    """Return the list of a blob on disk.

    Raises:
        OSError: it can't be read.
    """

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    return hash_list(chunks())


def list_bytes(size_bytes: int) -> int:
    """Return the size in bytes of the list of a blob of that size.

    Raises:
        MalformedError: no blob has that size.
    """
    count = chunk_count(size_bytes)
    return HASH_BYTES * count if count > 1 else 0


def check_list(hashes: bytes, size_bytes: int) -> bytes:
    """Return a list as it was given; an empty one stands for a list that nobody told.

    Raises:
        MalformedError: it isn't as long as a blob of that size needs.
    """
    wanted = list_bytes(size_bytes)
    if hashes and len(hashes) != wanted:
        raise MalformedError(
            f"the list of chunk digests has {len(hashes)} bytes; a blob of {size_bytes} bytes "
            f"needs {wanted}."
        )
    return hashes
