"""Holds a connection to the rate of publishes that a service takes; no clock, no I/O."""

from collections import deque

_WINDOW_S = 1.0


class Pace:
    """What was sent in the last second, and how long the next message must wait.

    A sliding window, not a bucket: services count per second, and a bucket that has filled up
    lets twice the rate pass in its first one.

    Args:
        publishes_per_s: messages in any one second; None: no limit.
        bytes_per_s: of packets in any one second; a larger packet goes alone. None: no limit.
    """

    def __init__(self, publishes_per_s: int | None, bytes_per_s: int | None) -> None:
        self._publishes = publishes_per_s
        self._bytes = bytes_per_s
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bytes = 0

    def wait_s(self, size_bytes: int, now: float) -> float:
        """Return how long a packet must wait, in seconds; 0 if it may go now."""
        if self._publishes is None and self._bytes is None:
            return 0.0
        while self._sent and now - self._sent[0][0] >= _WINDOW_S:
            self._sent_bytes -= self._sent.popleft()[1]
        count, held = len(self._sent), self._sent_bytes
        for sent_at, sent_bytes in self._sent:
            many = self._publishes is not None and count >= self._publishes
            much = self._bytes is not None and held + size_bytes > self._bytes
            if not many and not much:
                break
            count, held = count - 1, held - sent_bytes
            earliest = sent_at
        if count == len(self._sent):
            return 0.0
        # Above 0 whatever the rounding of the difference: it is not yet time.
        return max(1e-3, earliest + _WINDOW_S - now)

    def sent(self, size_bytes: int, now: float) -> None:
        """Count a packet that goes now."""
        if self._publishes is None and self._bytes is None:
            return
        self._sent.append((now, size_bytes))
        self._sent_bytes += size_bytes
