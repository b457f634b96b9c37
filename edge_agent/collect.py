"""Gathers blobs: from the hub's broadcast as it passes by, and by asking for what is missing.

The hub sends each part of an adapter once, to all. A device keeps the chunks of the blobs it
wants, and when no chunk came for a while it asks for the missing ones, a window at a time. A
device with a limit hears no broadcast: it asks for each chunk, as soon as the limit allows it.
"""

import logging
from collections.abc import Callable

from edge_agent.arrivals import Arrivals
from wire.blobs import BlobStore, Partial
from wire.errors import MalformedError
from wire.messages import Ranges
from wire.transfer import WINDOW, chunk_size, decode_chunk, indices, ranges

log = logging.getLogger(__name__)

#: How long a quiet broadcast is waited for before missing chunks are asked for.
QUIET_S = 1.5
LAST_WAIT_S = 30.0
#: How long a chunk that was asked for by itself is waited for, the first time.
PULL_WAIT_S = 10.0

Pull = Callable[[int, float], bool]


class _Want:
    def __init__(self, sha256: str, partial: Partial, now: float) -> None:
        self.sha256 = sha256
        self.partial = partial
        self.wait_s = QUIET_S
        self.due = now + QUIET_S
        self.asked_left = 0  # chunks of the last window that are still to come
        self.asked: dict[int, float] = {}  # chunks asked for by themselves, and since when
        self.pull_wait_s = PULL_WAIT_S
        self.warned = False


class Collector:
    """The blobs this device wants.

    Args:
        store: where they go.
        ask: sends a request for missing chunks of a blob: (sha256, ranges).
        pull: returns whether a chunk of so many bytes may be asked for at a time; None: the
            broadcast is heard, and only its gaps are asked for.
    """

    def __init__(
        self, store: BlobStore, ask: Callable[[str, Ranges], None], pull: Pull | None = None
    ) -> None:
        self._store = store
        self._ask = ask
        self._pull = pull
        self._wants: dict[bytes, _Want] = {}
        self._arrivals = Arrivals()

    @property
    def bytes_per_s(self) -> float | None:
        """What the link brought in a second while much came; None: that was never so."""
        return self._arrivals.bytes_per_s

    def want(self, sha256: str, size_bytes: int, now: float, hashes: bytes = b"") -> bool:
        """Return whether the blob is here; if not, begin to gather it.

        Args:
            sha256: of the blob.
            size_bytes: of the blob.
            now: monotonic time, in seconds.
            hashes: of its chunks, as `wire.chunk_hashes`; empty: not told.

        Raises:
            MalformedError: the size or the list can't be.
        """
        if self._store.path(sha256) is not None:
            return True
        key = bytes.fromhex(sha256)[:8]
        if key not in self._wants:
            if not self._wants:
                self._arrivals.pause()
            partial = self._store.partial(sha256, size_bytes)
            partial.expect(hashes)
            self._wants[key] = _Want(sha256, partial, now)
        return False

    @property
    def idle(self) -> bool:
        """Whether nothing is wanted."""
        return not self._wants

    def flush(self) -> None:
        """Make what was gathered so far survive a power cut."""
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

        Raises:
            MalformedError: not a chunk, or a damaged one.
        """
        chunk = decode_chunk(payload)
        if self._wants:
            self._arrivals.came(len(payload), now)
        want = self._wants.get(chunk.key)
        if want is None:
            return None
        try:
            want.partial.write(chunk.index, chunk.data, chunk.checksum)
        except MalformedError as error:
            if not want.warned:
                want.warned = True
                log.warning("dropped a chunk of %s: %s", want.sha256[:12], error)
            return None
        want.wait_s = QUIET_S
        want.due = now + QUIET_S
        if want.asked.pop(chunk.index, None) is not None:
            want.pull_wait_s = PULL_WAIT_S
        if not want.partial.complete:
            self._next_window(want, now)
            return None
        return self._finish(chunk.key, want)

    def _finish(self, key: bytes, want: _Want) -> str | None:
        try:
            want.partial.finish()
        except MalformedError as error:
            log.warning("%s", error)
            if want.partial.complete or want.partial.held == 0:  # nobody told which are wrong
                self.drop(want.sha256)
            return None
        del self._wants[key]
        return want.sha256

    def tick(self, now: float) -> list[str]:
        """Ask for what didn't come by itself.

        Returns:
            The blobs that need no asking: a restart has found all of their chunks on disk.
        """
        whole = [(key, want) for key, want in self._wants.items() if want.partial.complete]
        done = [self._finish(key, want) for key, want in whole]
        for want in self._wants.values():
            if self._pull is not None:
                if not self._pull_next(want, self._pull, now):
                    break  # the next one's turn comes when this one's chunks were asked for
            elif now >= want.due:
                self._request(want, now)
        return [sha256 for sha256 in done if sha256 is not None]

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

    def _pull_next(self, want: _Want, pull: Pull, now: float) -> bool:
        """Ask for what may come now; return whether everything of this blob is asked for."""
        overdue = [i for i, since in want.asked.items() if now - since > want.pull_wait_s]
        if overdue:
            want.pull_wait_s = min(want.pull_wait_s * 2, 10 * LAST_WAIT_S)
            for index in overdue:
                del want.asked[index]
        size = want.partial.size_bytes
        missing = want.partial.missing(2 * WINDOW)
        open_ = [i for i in indices(missing, 2**31, 2 * WINDOW) if i not in want.asked]
        chosen: list[int] = []
        for index in open_[: WINDOW - len(want.asked)]:
            if not pull(chunk_size(size, index), now):
                break
            chosen.append(index)
        if chosen:
            want.asked.update(dict.fromkeys(chosen, now))
            self._ask(want.sha256, ranges(chosen))
        return len(chosen) == len(open_)
