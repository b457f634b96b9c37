"""Gathers blobs: from the hub's broadcast as it passes by, and by asking for what is missing.

The hub sends each part of an adapter once, to all. A device keeps the chunks of the blobs it
wants, and when no chunk came for a while it asks for the missing ones, a window at a time.
"""

import logging
from collections.abc import Callable

from wire.blobs import BlobStore, Partial
from wire.errors import MalformedError
from wire.messages import Ranges
from wire.transfer import WINDOW, decode_chunk

log = logging.getLogger(__name__)

#: How long a quiet broadcast is waited for before missing chunks are asked for.
QUIET_S = 1.5
LAST_WAIT_S = 30.0


class _Want:
    def __init__(self, sha256: str, partial: Partial, now: float) -> None:
        self.sha256 = sha256
        self.partial = partial
        self.wait_s = QUIET_S
        self.due = now + QUIET_S
        self.asked_left = 0  # chunks of the last window that are still to come


class Collector:
    """The blobs this device wants.

    Args:
        store: where they go.
        ask: sends a request for missing chunks of a blob: (sha256, ranges).
    """

    def __init__(self, store: BlobStore, ask: Callable[[str, Ranges], None]) -> None:
        self._store = store
        self._ask = ask
        self._wants: dict[bytes, _Want] = {}

    def want(self, sha256: str, size_bytes: int, now: float) -> bool:
        """Return whether the blob is here; if not, begin to gather it."""
        if self._store.path(sha256) is not None:
            return True
        key = bytes.fromhex(sha256)[:8]
        if key not in self._wants:
            self._wants[key] = _Want(sha256, self._store.partial(sha256, size_bytes), now)
        return False

    def flush(self) -> None:
        """Make what was gathered so far survive a restart."""
        for want in self._wants.values():
            want.partial.flush()

    def drop(self, sha256: str) -> None:
        """Stop gathering a blob and forget what came of it."""
        want = self._wants.pop(bytes.fromhex(sha256)[:8], None)
        if want is not None:
            want.partial.discard()

    def keep_only(self, sha256s: set[str]) -> None:
        """Drop every blob that is not among these."""
        for want in list(self._wants.values()):
            if want.sha256 not in sha256s:
                self.drop(want.sha256)

    def on_chunk(self, payload: bytes, now: float) -> str | None:
        """Take a chunk; return the sha256 of the blob that it completed, if it did.

        Chunks of blobs that nobody wants are passed over: a broadcast is heard by all.
        """
        try:
            chunk = decode_chunk(payload)
        except MalformedError as error:
            log.warning("dropped a chunk: %s", error)
            return None
        want = self._wants.get(chunk.key)
        if want is None:
            return None
        try:
            want.partial.write(chunk.index, chunk.data)
        except MalformedError as error:
            log.warning("dropped a chunk of %s: %s", want.sha256[:12], error)
            return None
        want.wait_s = QUIET_S
        want.due = now + QUIET_S
        if not want.partial.complete:
            self._next_window(want, now)
            return None
        del self._wants[chunk.key]
        try:
            want.partial.finish()
        except MalformedError as error:
            # Every chunk had a right checksum, so the sender's copy is wrong: begin anew.
            log.warning("blob %s is not what it should be: %s", want.sha256[:12], error)
            return None
        return want.sha256

    def tick(self, now: float) -> None:
        """Ask for what didn't come by itself."""
        for want in self._wants.values():
            if now >= want.due:
                self._request(want, now)

    def _next_window(self, want: _Want, now: float) -> None:
        if want.asked_left > 0:
            want.asked_left -= 1
            if want.asked_left == 0:
                self._request(want, now)

    def _request(self, want: _Want, now: float) -> None:
        missing = want.partial.missing(WINDOW)
        want.asked_left = sum(count for _, count in missing)
        want.wait_s = min(want.wait_s * 2, LAST_WAIT_S)
        want.due = now + want.wait_s
        self._ask(want.sha256, missing)
