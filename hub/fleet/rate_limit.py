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

    Each request costs a signature check, so all together are limited, and no address may take all
    of that. Of an address that failed often no more reasons are told; good requests from there are
    answered all the same: behind one address there may be a clinic's devices and one that guesses.

    Args:
        requests: of everybody, at once and a second.
        each: of one address, likewise.
        failures: of one address whose reasons are told, likewise.
    """

    def __init__(
        self,
        now: float,
        requests: tuple[float, float] = (200.0, 50.0),
        each: tuple[float, float] = (100.0, 10.0),
        failures: tuple[float, float] = (10.0, 1 / 6),
    ) -> None:
        self._all = Bucket(*requests, now)
        self._each = each
        self._failures = failures
        self._by_address: OrderedDict[str, tuple[Bucket, Bucket]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Return whether a request may be looked at."""
        requests, _ = self._buckets(address, now)
        return requests.take(now) and self._all.take(now)

    def failed(self, address: str, now: float) -> bool:
        """Note that an address's request was refused; return whether it may be told why."""
        _, failures = self._buckets(address, now)
        return failures.take(now)

    def _buckets(self, address: str, now: float) -> tuple[Bucket, Bucket]:
        fresh = Bucket(*self._each, now), Bucket(*self._failures, now)
        found = self._by_address.setdefault(address, fresh)
        self._by_address.move_to_end(address)
        while len(self._by_address) > _MOST:
            self._by_address.popitem(last=False)
        return found
