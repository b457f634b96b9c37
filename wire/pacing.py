"""How fast bytes may go. Pure: the clock is an argument.

What counts are the bytes of the MQTT stream (`wire.mqtt_sizes`): headers, topics, packet ids and
acknowledgements included; what TCP and IP add, about 4 % on Ethernet, is not.
"""

import re

#: A timer that fires late may make up for so much; more would be a burst.
LATE_S = 0.5
#: The smallest limit: a chunk must pass within ten minutes.
LEAST_BITS_PER_S = 1000

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(bit|kbit|mbit|gbit)(?:/s)?\Z", re.IGNORECASE)
_FACTORS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def parse_rate(text: str) -> int:
    """Return a rate in bits per second, from words like ``250kbit`` or ``1.5 mbit/s``.

    Raises:
        ValueError: it isn't a number with one of the units bit, kbit, mbit and gbit, or it is
            below `LEAST_BITS_PER_S`.
    """
    match = _RATE.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no rate; write a number and a unit, like 250kbit or 1mbit.")
    rate = round(float(match.group(1)) * _FACTORS[match.group(2).lower()])
    if rate < LEAST_BITS_PER_S:
        raise ValueError(f"{text!r} is too slow; at least {LEAST_BITS_PER_S} bit are needed.")
    return rate


class Pace:
    """A token bucket that is paid before, so that no moment sees more than the limit.

    A message of n bytes may leave n / rate seconds after it was first asked for, or after the one
    before it was paid, whichever is later. Nothing is saved up while nothing is sent, so a
    transfer of any length takes exactly its bytes over the rate.

    Args:
        bytes_per_s: the limit; None: there is none.
    """

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._paid_at = float("-inf")  # when all that was sent so far is paid for
        self._begun_at: float | None = None  # when saving for the next message began

    def wait_s(self, size_bytes: int, now: float) -> float:
        """Return how many seconds a message must wait still; 0: it may go now.

        Asking begins the wait: the bytes are saved up from then on.
        """
        if self.bytes_per_s is None:
            return 0.0
        if self._begun_at is None:
            late = now - self._paid_at <= LATE_S
            self._begun_at = self._paid_at if late else now
        return max(0.0, self._begun_at + size_bytes / self.bytes_per_s - now)

    def take(self, size_bytes: int, now: float) -> bool:
        """Return whether a message may go now; if so, it is paid for."""
        if self.wait_s(size_bytes, now) > 0:
            return False
        if self.bytes_per_s is not None and self._begun_at is not None:
            self._paid_at = self._begun_at + size_bytes / self.bytes_per_s
            self._begun_at = None
        return True

    def charge(self, size_bytes: int, now: float) -> None:
        """Count bytes that could not wait; what waits does so for longer."""
        if self.bytes_per_s is None or size_bytes <= 0:
            return
        if self._begun_at is not None:
            self._begun_at += size_bytes / self.bytes_per_s
        else:
            self._paid_at = max(self._paid_at, now) + size_bytes / self.bytes_per_s

    def pause(self) -> None:
        """Forget that something waits: nothing is there to be sent any more."""
        if self._begun_at is not None:
            self._paid_at = max(self._paid_at, self._begun_at)
            self._begun_at = None
