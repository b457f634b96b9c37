"""How fast the link brings what this device waits for."""

from collections import deque
from statistics import median

#: Less than this in a row measures how chunks are spaced, not the link.
LEAST_BYTES = 256 * 1024
#: So long without a message somebody was away; even a link of 20 kbit/s brings a chunk in less.
GAP_S = 30.0
_KEPT = 5


class Arrivals:
    """Bytes a second over stretches in which something is waited for: the median of the last ones.

    A stretch begins with the first chunk after a pause, which is not counted: how long the link
    took for that one isn't known.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._last = 0.0
        self._bytes = 0
        self._rates: deque[float] = deque(maxlen=_KEPT)

    @property
    def bytes_per_s(self) -> float | None:
        """The link's rate, in bytes a second; None: not measured yet."""
        return median(self._rates) if self._rates else None

    def came(self, size_bytes: int, now: float) -> None:
        """Count a message.

        Args:
            size_bytes: of it.
            now: monotonic time, in seconds.
        """
        away = now - self._last > GAP_S
        self._last = now
        if self._began is None or away:
            self._began, self._bytes = now, 0
            return
        self._bytes += size_bytes
        if self._bytes >= LEAST_BYTES and now > self._began:
            self._rates.append(self._bytes / (now - self._began))
            self._began, self._bytes = now, 0

    def pause(self) -> None:
        """Nothing was waited for since the last message: what comes now begins a new stretch."""
        self._began = None
