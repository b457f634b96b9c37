"""Counts the chunks of each blob, so that a blob is a line or two and not a thousand."""

from collections import OrderedDict

import msgspec

from wire.transfer import Chunk

#: A blob is told once it was quiet for so long, and while it goes on, that often.
QUIET_S = 1.0
EVERY_S = 5.0
#: Blobs that are counted at a time; beyond that the oldest is told and forgotten.
MAX_BLOBS = 256


class _Count(msgspec.Struct):
    chunks: int = 0
    size_bytes: int = 0
    told_chunks: int = 0
    first_ts: float = 0.0  # of those that weren't told yet
    last_ts: float = 0.0


class Told(msgspec.Struct, frozen=True):
    """A blob's count, to be shown now."""

    topic: str
    blob: str  # the first 8 digits of its sha256
    chunks: int
    size_bytes: int


class ChunkCounts:
    """Chunks seen so far, by topic and blob."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()

    def add(self, topic: str, chunk: Chunk, now: float) -> list[Told]:
        """Count a chunk; return the blob that had to make room, if any.

        Args:
            now: seconds, of any clock that only goes forward.
        """
        key = (topic, chunk.key.hex()[:8])
        count = self._counts.setdefault(key, _Count())
        if count.chunks == count.told_chunks:
            count.first_ts = now
        count.chunks += 1
        count.size_bytes += len(chunk.data)
        count.last_ts = now
        if len(self._counts) <= MAX_BLOBS:
            return []
        oldest, lost = self._counts.popitem(last=False)
        return [_told(oldest, lost)] if lost.chunks > lost.told_chunks else []

    def due(self, now: float) -> list[Told]:
        """Return the blobs with news that went quiet, or that have not been told for long."""
        found = []
        for key, count in self._counts.items():
            fresh = count.chunks > count.told_chunks
            if fresh and (now - count.last_ts >= QUIET_S or now - count.first_ts >= EVERY_S):
                count.told_chunks = count.chunks
                found.append(_told(key, count))
        return found

    def rest(self) -> list[Told]:
        """Return every blob with news, at the end."""
        return [
            _told(key, one) for key, one in self._counts.items() if one.chunks > one.told_chunks
        ]


def _told(key: tuple[str, str], count: _Count) -> Told:
    return Told(*key, chunks=count.chunks, size_bytes=count.size_bytes)
