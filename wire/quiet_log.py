"""Says what happens once, not a thousand times: one line per subject and pause, with a count."""

import logging
import time
from collections.abc import Callable

PAUSE_S = 10.0
#: Subjects that are remembered; beyond that, all share one.
MAX_SUBJECTS = 1000
_MAX_LENGTH = 300


def one_line(text: str) -> str:
    """Return text with what can't be printed replaced, line ends included."""
    return "".join(char if char.isprintable() else "?" for char in text)


class Printable(logging.Filter):
    """Keeps each message on one line: what a peer says may forge no lines of ours.

    Belongs to a handler; traces stay as they are.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace what can't be printed; nothing is held back."""
        record.msg, record.args = one_line(record.getMessage()), ()
        return True


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

    def note(self, subject: str, message: str) -> None:
        """Log what is no trouble at level INFO, unless the subject had a line a moment ago."""
        self._say(logging.INFO, subject, message, None)

    def warn(self, subject: str, message: str, error: BaseException | None = None) -> None:
        """Log a message, unless the same subject had one a moment ago.

        Args:
            subject: what it is about.
            message: one line; its length is bounded, and what can't be printed is replaced.
            error: whose trace is logged, too.
        """
        self._say(logging.WARNING, subject, message, error)

    def _say(self, level: int, subject: str, message: str, error: BaseException | None) -> None:
        if subject not in self._next and len(self._next) >= MAX_SUBJECTS:
            subject = "others"
        now = self._clock()
        if now < self._next.get(subject, 0.0):
            self._kept_back[subject] = self._kept_back.get(subject, 0) + 1
            return
        self._next[subject] = now + PAUSE_S
        more = self._kept_back.pop(subject, 0)
        words = message if len(message) <= _MAX_LENGTH else message[:_MAX_LENGTH] + "..."
        line = one_line(words)
        count = f" ({more} more like this)" if more else ""
        self._log.log(level, "%s%s", line, count, exc_info=error)
