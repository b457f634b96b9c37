"""Sends blobs in chunks: an adapter once for all, repairs to one, never faster than the broker.

Chunks are read from disk when their turn comes, so a queue of large blobs costs no memory.
"""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wire.link import Link
from wire.transfer import CHUNK_BYTES, chunk_count, chunk_size, encode_chunk

#: Publishes that wait for the broker's acknowledgement; more would only fill our own memory.
MAX_UNDER_WAY = 16
MAX_REPAIRS = 4096


class _Job(msgspec.Struct, frozen=True):
    topic: str
    sha256: str
    path: Path
    size_bytes: int
    index: int


class Broadcast:
    """Chunks on their way out. Repairs go first: somebody waits for them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._repairs: deque[_Job] = deque()
        self._blobs: deque[Iterator[_Job]] = deque()
        self._next: _Job | None = None

    def publish(self, topic: str, sha256: str, path: Path) -> None:
        """Queue a whole blob for everybody who listens on a slice's topic."""
        size = path.stat().st_size

        def jobs() -> Iterator[_Job]:
            for index in range(chunk_count(size)):
                yield _Job(topic, sha256, path, size, index)

        self._blobs.append(jobs())

    def repair(self, topic: str, sha256: str, path: Path, indices: list[int]) -> None:
        """Queue some chunks for one device. What exceeds the queue is asked for again later."""
        size = path.stat().st_size
        for index in indices:
            if len(self._repairs) >= MAX_REPAIRS:
                return
            self._repairs.append(_Job(topic, sha256, path, size, index))

    @property
    def idle(self) -> bool:
        return not self._repairs and not self._blobs and self._next is None

    def pump(self) -> None:
        """Send what the broker takes now."""
        while not self.idle and self._link.connected and self._link.in_flight < MAX_UNDER_WAY:
            job = self._take()
            if job is None:
                return
            try:
                with job.path.open("rb") as file:
                    file.seek(job.index * CHUNK_BYTES)
                    data = file.read(chunk_size(job.size_bytes, job.index))
            except FileNotFoundError:
                continue  # the blob was replaced by a newer adapter; nobody needs it now
            payload = encode_chunk(job.sha256, job.index, data)
            if not self._link.publish(job.topic, payload):
                self._next = job
                return

    def _take(self) -> _Job | None:
        if self._next is not None:
            job, self._next = self._next, None
            return job
        if self._repairs:
            return self._repairs.popleft()
        while self._blobs:
            found = next(self._blobs[0], None)
            if found is not None:
                return found
            self._blobs.popleft()
        return None
