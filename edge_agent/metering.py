"""Keeps a device within the limits that its user set: bits per second up and down, bytes a day.

Chunks wait until they are paid for; small messages don't, and are charged afterwards. A broadcast
can't be slowed down by who hears it, and carries slices that this device may not want: with a
limit on what comes in, the device asks for its chunks one after the other instead.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from edge_agent.data_cap import DataCap
from wire.pacing import Pace

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the device's user set; None: no limit."""

    up_bits_per_s: int | None = None
    down_bits_per_s: int | None = None
    data_cap_bytes: int | None = None  # a day, up and down together


class Metering:
    """Counts what the link moves, and says when a chunk may go.

    Args:
        agent: whose link is counted. Its settings hold the limits.
        clock: returns Unix time, in seconds: tells the days apart.
    """

    def __init__(self, agent: "Supervisor", clock: Callable[[], float] = time.time) -> None:
        limits = agent.settings.limits
        self._agent = agent
        self._up = Pace(_bytes(limits.up_bits_per_s))
        self._down = Pace(_bytes(limits.down_bits_per_s))
        self._cap: DataCap | None = None
        if limits.data_cap_bytes is not None:
            file = agent.folder / "data_cap.json"
            self._cap = DataCap(file, limits.data_cap_bytes, clock)
        self._seen_up = self._seen_down = 0  # of the link's counts
        self._paid_up = self._paid_down = 0  # taken before, and not yet seen on the link
        self._fetched = 0  # by the worker's present fetch
        self._was_exhausted = False

    @property
    def pulls(self) -> bool:
        """Whether this device asks for its chunks instead of hearing them broadcast."""
        return self._down.bytes_per_s is not None or self._cap is not None

    @property
    def reason(self) -> str | None:
        """Why nothing large goes any more today, None while it does."""
        if self._cap is None or not self._cap.exhausted:
            return None
        return (
            f"{self._cap.used_bytes / 1e6:.1f} MB of the day's {self._cap.cap_bytes / 1e6:g} MB "
            "of data are used; adapters and updates wait until 00:00 UTC"
        )

    @property
    def down_bytes_per_s(self) -> float | None:
        """The limit for what comes in; None: there is none."""
        return self._down.bytes_per_s

    @property
    def left_bytes(self) -> int | None:
        """What may still be moved today; None: any number of bytes."""
        return None if self._cap is None else self._cap.left_bytes

    def on_fetched(self, fetched_bytes: int) -> None:
        """Count what the worker fetched over HTTP: so many bytes since its fetch began."""
        new = fetched_bytes if fetched_bytes < self._fetched else fetched_bytes - self._fetched
        self._fetched = fetched_bytes
        if self._cap is not None:
            self._cap.count(new)

    def take_up(self, size_bytes: int, now: float) -> bool:
        """Return whether so many bytes may be sent now; if so, they are paid for.

        Args:
            size_bytes: of the MQTT packet.
            now: monotonic time, in seconds.
        """
        self._observe(now)
        if self._up.wait_s(size_bytes, now) > 0 or not self._count(size_bytes):
            return False
        self._paid_up += size_bytes
        return self._up.take(size_bytes, now)

    def take_down(self, size_bytes: int, now: float) -> bool:
        """Return whether so many bytes may be asked for now; if so, they are paid for."""
        self._observe(now)
        if self._down.wait_s(size_bytes, now) > 0 or not self._count(size_bytes):
            return False
        self._paid_down += size_bytes
        return self._down.take(size_bytes, now)

    def idle(self, *, up: bool = False, down: bool = False) -> None:
        """Note that nothing waits to be sent, or to be asked for."""
        if up:
            self._up.pause()
        if down:
            self._down.pause()

    def tick(self, now: float) -> None:
        """Count small messages; tell when the day's bytes are used up, or a new day has begun."""
        self._observe(now)
        agent, reason = self._agent, self.reason
        if (reason is not None) == self._was_exhausted:
            return
        self._was_exhausted = reason is not None
        if reason is not None:
            log.warning("%s", reason)
            agent.teller.event("data-cap", reason)
        else:
            log.info("a new day: there are bytes again")
        if agent.welcomed:
            agent.teller.state(*agent.resting.state)

    def close(self) -> None:
        """Bring the count to the disk."""
        self._observe(0.0)
        if self._cap is not None:
            self._cap.write()

    def _observe(self, now: float) -> None:
        """Charge what went besides the chunks that were paid for."""
        up, down = self._agent.link.bytes_up, self._agent.link.bytes_down
        more_up, self._paid_up = _unpaid(up - self._seen_up, self._paid_up)
        more_down, self._paid_down = _unpaid(down - self._seen_down, self._paid_down)
        self._seen_up, self._seen_down = up, down
        self._up.charge(more_up, now)
        self._down.charge(more_down, now)
        if self._cap is not None:
            self._cap.count(more_up + more_down)

    def _count(self, size_bytes: int) -> bool:
        return self._cap is None or self._cap.take(size_bytes)


def _bytes(bits: int | None) -> float | None:
    return None if bits is None else bits / 8


def _unpaid(seen: int, paid: int) -> tuple[int, int]:
    """Return what of the bytes seen was not paid for, and what is still to be seen."""
    return max(0, seen - paid), max(0, paid - seen)
