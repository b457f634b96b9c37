"""Receives updates: half of one survives a restart, none may be larger than what was offered."""

import time
from typing import NamedTuple

import msgspec

from wire.blobs import BlobStore, Partial
from wire.chunk_hashes import list_bytes
from wire.errors import MalformedError
from wire.messages import BlobInit, Ranges
from wire.partial import WrongChunksError
from wire.transfer import WINDOW, check_sha256, decode_chunk
from wire.upload import LISTED_WINDOWS

#: Of one device at a time. An honest one has two: an update, and the list of its chunks' digests.
MAX_UPLOADS = 4
#: Chunks that all devices together may have under way: 8 MiB, however many devices there are.
SHARED_WINDOW = 128

#: An upload of which nothing was heard for so long takes no part in the sharing; and after the
#: second time, not in the bookkeeping either.
QUIET_S = 60.0
KEPT_S = 3600.0

_Key = tuple[str, bytes]  # the device, and the first bytes of the blob's sha256


class Due(NamedTuple):
    """What a device is to be told now.

    ``missing``: the first chunks that it is to send; None: the reply to its announcement is due.
    """

    announced: BlobInit
    missing: Ranges | None


class _Incoming(msgspec.Struct):
    sha256: str
    partial: Partial
    heard_at: float  # monotonic time
    announced: BlobInit
    # Its only chunk follows: the reply waits until it came.
    awaited: BlobInit | None = None
    untold: int = 0  # chunks that may come still before the device is told what is missing


class Uploads:
    """The blobs that are on their way in.

    Args:
        store: where complete blobs go.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._open: dict[_Key, _Incoming] = {}

    @property
    def window(self) -> int:
        """How many chunks one device may have under way now."""
        since = time.monotonic() - QUIET_S
        active = sum(found.heard_at >= since for found in self._open.values())
        return max(1, min(WINDOW, SHARED_WINDOW // max(1, active)))

    def begin(self, device: str, message: BlobInit) -> Ranges | None:
        """Return the first chunks that are missing; None: the blob is here, whole and on disk.

        What a restart left of it was made durable before.

        Raises:
            MalformedError: the digest, the size or the list of chunk digests is impossible.
        """
        if self._store.path(message.sha256) is not None:
            self.forget(device, message.sha256)
            return None
        key = _key(device, message.sha256)
        found = self._open.pop(key, None)
        if found is None or found.sha256 != message.sha256:
            partial = self._store.partial(message.sha256, message.size_bytes)
            found = _Incoming(message.sha256, partial, time.monotonic(), message)
        elif found.partial.size_bytes != message.size_bytes:
            raise MalformedError(f"blob {message.sha256[:12]} was begun with another size.")
        found.partial.expect(self._hashes(message))
        found.partial.flush()
        found.heard_at = time.monotonic()
        self._let_go_of_oldest(device, found.heard_at)
        self._open[key] = found
        found.announced = message
        return self._missing(found)

    def wait_for_chunk(self, device: str, message: BlobInit) -> bool:
        """Return whether the reply to a begun upload's announcement may wait for its only chunk.

        It may once: the chunk of an announcement that is repeated was lost.
        """
        found = self._open.get(_key(device, message.sha256))
        if found is None or not message.follows or found.awaited == message:
            return False
        found.awaited = message
        return True

    def on_chunk(self, device: str, payload: bytes) -> Due | None:
        """Take a chunk; one that nobody announced, or that is damaged, is dropped.

        Returns:
            What the device is to be told now.

        Raises:
            MalformedError: it isn't a chunk, or not the one that belongs where it says.
        """
        chunk = decode_chunk(payload)
        found = self._open.get((device, chunk.key))
        if found is None:
            return None
        found.heard_at = time.monotonic()
        news = found.partial.write(chunk.index, chunk.data, chunk.checksum)
        if found.partial.complete:
            awaited, found.awaited = found.awaited, None
            return Due(awaited, None) if awaited is not None else None
        found.untold -= news
        if found.untold > 0 or not found.announced.unasked:
            return None
        return Due(found.announced, self._missing(found))

    def finish(self, device: str, sha256: str) -> Ranges | None:
        """Return None once the blob is complete, verified and on disk; else what is missing.

        Raises:
            UnknownUploadError: it was never begun, or not since this hub started.
            WrongChunksError: some chunks are wrong; the list of their digests will tell which.
            MalformedError: the content isn't what the digest says.
        """
        found = self._open.get(_key(device, sha256))
        known = found is not None and found.sha256 == sha256
        if found is not None and known and not found.partial.complete:
            return self._missing(found)
        if self._store.path(sha256) is not None:
            self.forget(device, sha256)
            return None
        if found is None or not known:
            raise UnknownUploadError(f"no upload of {sha256[:12]} was begun; send blob-init first.")
        try:
            found.partial.finish()
        except WrongChunksError:
            missing = self._missing(found)
            if missing:
                return missing
            raise  # the list of digests is wanted
        except MalformedError:
            self.forget(device, sha256)
            raise
        self.forget(device, sha256)
        return None

    def forget(self, device: str, sha256: str) -> None:
        """Let go of an upload's bookkeeping; what is on disk stays."""
        self._open.pop(_key(device, sha256), None)

    def tells(self, device: str, sha256: str) -> bool:
        """Return whether the device is told what came without asking."""
        found = self._open.get(_key(device, sha256))
        return found is not None and found.announced.unasked

    def _missing(self, found: _Incoming) -> Ranges:
        """Return what a device is told now; half a window more, and it is told again."""
        found.untold = max(1, self.window // 2)
        return found.partial.missing(LISTED_WINDOWS * WINDOW)

    def _let_go_of_oldest(self, device: str, now: float) -> None:
        mine = [key for key in self._open if key[0] == device]
        old = [key for key, found in self._open.items() if now - found.heard_at > KEPT_S]
        for key in {*old, *mine[: max(0, len(mine) + 1 - MAX_UPLOADS)]}:
            del self._open[key]

    def _hashes(self, message: BlobInit) -> bytes:
        if not message.hashes_sha256:
            return message.hashes
        path = self._store.path(message.hashes_sha256)
        size = self._store.size(message.hashes_sha256)
        if path is None:
            raise UnknownUploadError(f"list {message.hashes_sha256[:12]} is not here; upload it.")
        if size != list_bytes(message.size_bytes):
            raise MalformedError(
                f"list {message.hashes_sha256[:12]} has {size} bytes; a blob of "
                f"{message.size_bytes} bytes needs {list_bytes(message.size_bytes)}."
            )
        return path.read_bytes()


class UnknownUploadError(MalformedError):
    """The upload must be begun (again)."""


def _key(device: str, sha256: str) -> _Key:
    return device, bytes.fromhex(check_sha256(sha256))[:8]
