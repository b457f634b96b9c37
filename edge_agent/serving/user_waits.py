"""Says to the agent that a user waits, for long enough that it is noticed.

An answer may take a few milliseconds; the agent looks four times a second.
"""

import threading

from edge_agent.serving_state import UserLock

LINGER_S = 1.0


class UserWaits:
    """What the scheduler tells of its work, passed on through the lock.

    Args:
        lock: in the agent's state folder.
        linger_s: so long after the last answer the lock is still held.
    """

    def __init__(self, lock: UserLock, linger_s: float = LINGER_S) -> None:
        self._lock = lock
        self._linger_s = linger_s
        self._guard = threading.Lock()
        self._waits = False
        self._closed = False
        self._timer: threading.Timer | None = None

    def tell(self, waits: bool) -> None:
        """Take that a user waits, or that none does any more."""
        with self._guard:
            self._waits = waits
            if self._closed:
                return
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if waits:
                self._lock.tell(True)
            else:
                self._timer = threading.Timer(self._linger_s, self._over)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._guard:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._lock.close()

    def _over(self) -> None:
        with self._guard:
            if not self._waits and not self._closed:
                self._lock.tell(False)
