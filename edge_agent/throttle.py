"""Lets a download's bytes pass at the device's rate, and only as many as the day still has."""

import time
from collections.abc import Callable

from edge_agent.errors import AgentError
from wire.pacing import Pace

_PIECE_BYTES = 256 * 1024
_LEAST_PIECE_BYTES = 4096
_PIECE_S = 0.25


class DayUsedUpError(AgentError):
    """The day's bytes are used up; what came is kept, and another day goes on."""


class Throttle:
    """Says how much may be read next, once it may.

    Args:
        bytes_per_s: the device's limit; None: none.
        most_bytes: that may still come today; None: any number.
        clock: returns monotonic time, in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        bytes_per_s: float | None = None,
        most_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pace = Pace(bytes_per_s)
        self._left = most_bytes
        self._clock = clock
        self._sleep = sleep
        self.passed_bytes = 0
        self._piece = _PIECE_BYTES
        if bytes_per_s is not None:
            self._piece = min(_PIECE_BYTES, max(_LEAST_PIECE_BYTES, int(bytes_per_s * _PIECE_S)))

    def next_piece(self, wanted_bytes: int) -> int:
        """Return how many of the wanted bytes to read now; they count as read.

        Raises:
            DayUsedUpError: none, for today.
        """
        size = min(self._piece, wanted_bytes)
        if self._left is not None:
            if size > self._left:
                raise DayUsedUpError(
                    f"the day's bytes are used up after {self.passed_bytes} of this download; it "
                    "goes on after 00:00 UTC. Raise --data-cap if that is too late."
                )
            self._left -= size
        while not self._pace.take(size, now := self._clock()):
            self._sleep(self._pace.wait_s(size, now))
        self.passed_bytes += size
        return size
