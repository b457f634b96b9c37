"""Receives updates: half of one survives a restart, none may be larger than what was offered."""

import logging

from wire.blobs import BlobStore, Partial
from wire.errors import MalformedError
from wire.messages import Ranges
from wire.transfer import WINDOW, decode_chunk

log = logging.getLogger(__name__)

#: Of one device at a time. An honest one has one; a restart may leave another.
MAX_UPLOADS = 4


class Uploads:
    """The blobs that are on their way in.

    Args:
        store: where complete blobs go.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._open: dict[tuple[str, bytes], Partial] = {}
        self._shas: dict[tuple[str, bytes], str] = {}

    def begin(self, device: str, sha256: str, size_bytes: int) -> Ranges:
        """Return the chunks that are missing, the first window of them; none: it is complete.

        Raises:
            MalformedError: the digest or size is impossible.
        """
        if self._store.path(sha256) is not None:
            return []
        key = (device, bytes.fromhex(sha256)[:8])
        if key not in self._open:
            if sum(owner == device for owner, _ in self._open) >= MAX_UPLOADS:
                raise MalformedError(f"at most {MAX_UPLOADS} uploads may be open; finish one.")
            self._open[key] = self._store.partial(sha256, size_bytes)
            self._shas[key] = sha256
        return self._open[key].missing(WINDOW)

    def on_chunk(self, device: str, payload: bytes) -> None:
        """Take a chunk; one that nobody announced, or that is damaged, is dropped.

        Raises:
            MalformedError: it isn't a chunk, or doesn't belong where it says.
        """
        chunk = decode_chunk(payload)
        partial = self._open.get((device, chunk.key))
        if partial is not None:
            partial.write(chunk.index, chunk.data)

    def finish(self, device: str, sha256: str) -> Ranges | None:
        """Return None once the blob is complete, verified and on disk; else what is missing.

        Raises:
            MalformedError: no such upload, or the content isn't what the digest says.
        """
        if self._store.path(sha256) is not None:
            self.forget(device, sha256)
            return None
        key = (device, bytes.fromhex(sha256)[:8])
        partial = self._open.get(key)
        if partial is None or self._shas[key] != sha256:
            raise MalformedError(f"no upload of {sha256[:12]} was begun; send blob-init first.")
        partial.flush()
        missing = partial.missing(WINDOW)
        if missing:
            return missing
        try:
            partial.finish()
        finally:
            self.forget(device, sha256)
        return None

    def forget(self, device: str, sha256: str) -> None:
        """Let go of an upload's bookkeeping; what is on disk stays."""
        key = (device, bytes.fromhex(sha256)[:8])
        self._open.pop(key, None)
        self._shas.pop(key, None)
