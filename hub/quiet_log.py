"""Says what happens once, not a thousand times: one line per subject and pause, with a count."""

import logging
import time
from collections.abc import Callable

PAUSE_S = 10.0
#: Subjects that are remembered; beyond that, all share one.
MAX_SUBJECTS = 1000
_MAX_LENGTH = 300


class QuietLog:
    """Warnings that anybody on the network can cause.

    Args:
        log: where they go.
        clock: monotonic, in seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._next: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}

    def warn(self, subject: str, message: str) -> None:
        """Log a message, unless the same subject had one a moment ago."""
        if subject not in self._next and len(self._next) >= MAX_SUBJECTS:
            subject = "others"
        now = self._clock()
        if now < self._next.get(subject, 0.0):
            self._kept_back[subject] = self._kept_back.get(subject, 0) + 1
            return
        self._next[subject] = now + PAUSE_S
        more = self._kept_back.pop(subject, 0)
        words = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
        line = "".join(char if char.isprintable() else "?" for char in words)
        self._log.warning("%s%s", line, f" ({more} more like this)" if more else "")
