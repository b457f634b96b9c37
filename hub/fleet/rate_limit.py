"""How often an address may fail, and everybody ask: token buckets; pure."""

from collections import OrderedDict

#: Addresses that are remembered; the one that was not heard for longest goes first.
_MOST = 10_000


class Bucket:
    """So many at once, and then so many a second.

    Args:
        burst: at once.
        per_s: that come back each second.
    """

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def look(self, now: float) -> float:
        """Return how many are left."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        return self._left

    def take(self, now: float) -> bool:
        """Take one; False if none is left."""
        if self.look(now) < 1.0:
            return False
        self._left -= 1.0
        return True


class RateLimit:
    """For an endpoint that strangers reach.

    Each request costs a signature check, so all together are limited; each failure may be a guess,
    so those of an address are, far below what a guess of 192 bits would need. Devices that wait
    for approval behind one address don't disturb each other.

    Args:
        requests: of everybody, at once and a second.
        failures: of one address, at once and a second.
    """

    def __init__(
        self,
        now: float,
        requests: tuple[float, float] = (200.0, 50.0),
        failures: tuple[float, float] = (10.0, 1 / 6),
    ) -> None:
        self._all = Bucket(*requests, now)
        self._failures = failures
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Return whether a request may be looked at."""
        failed = self._by_address.get(address)
        if failed is not None and failed.look(now) < 1.0:
            return False
        return self._all.take(now)

    def failed(self, address: str, now: float) -> None:
        """Note that an address's request was refused."""
        bucket = self._by_address.setdefault(address, Bucket(*self._failures, now))
        bucket.take(now)
        self._by_address.move_to_end(address)
        while len(self._by_address) > _MOST:
            self._by_address.popitem(last=False)
