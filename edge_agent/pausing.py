"""When a task must rest, and when it may go on: pure rules over what the device tells of itself.

A trouble counts once it was read twice in a row, and is over once everything was good for a while
by stricter marks (hysteresis): a task that stops and goes all the time would train nothing.
"""

from typing import Literal

import msgspec

from edge_agent.probe.conditions import Conditions

Kind = Literal["throttled", "battery", "pressure"]

#: Readings in a row before a trouble counts, and before it counts as over.
BAD_READINGS = 2
GOOD_READINGS = 6
#: Where a device doesn't tell from where on it protects itself. A Raspberry Pi's firmware slows
#: down from 80 °C (https://www.raspberrypi.com/documentation/computers/raspberry-pi.html).
USUAL_LIMIT_C = 80.0
_BELOW_LIMIT_C = 5.0
_COOLER_C = 8.0
_FULLER_PERCENT = 5.0
#: Of the time in which every process waited for memory, in percent; and how little of it must be
#: free besides: a worker that reads a file larger than its limit waits as well, and harms nobody.
_PRESSURE_PERCENT = 20.0
_CALM_PERCENT = 5.0
_SHORT_SHARE = 0.10


class Comfort(msgspec.Struct, frozen=True, kw_only=True):
    """What the device's user asks for."""

    min_battery_percent: float = 20.0
    max_temperature_c: float | None = None  # None: a little below the device's own limit


class Trouble(msgspec.Struct, frozen=True):
    """Why a task must rest."""

    kind: Kind
    reason: str


class Watch:
    """Readings in, the trouble in force out.

    Args:
        comfort: of the user.

    Attributes:
        trouble: in force, None while all is well.
    """

    def __init__(self, comfort: Comfort) -> None:
        self._comfort = comfort
        self._bad = 0
        self._good = 0
        self.trouble: Trouble | None = None

    def read(self, now: Conditions, free_share: float | None) -> None:
        """Take a reading.

        Args:
            now: what the device tells.
            free_share: of the machine's memory, what is available beside the task, 0 to 1; while
                it rests, what it will need is taken off. None: unknown.
        """
        found = find(now, free_share, self._comfort, resting=self.trouble is not None)
        self._bad = self._bad + 1 if found else 0
        self._good = 0 if found else self._good + 1
        if self.trouble is None:
            if found is not None and self._bad >= BAD_READINGS:
                self.trouble = found
        elif found is not None:
            self.trouble = found
        elif self._good >= GOOD_READINGS:
            self.trouble = None


def find(
    now: Conditions, free_share: float | None, comfort: Comfort, *, resting: bool
) -> Trouble | None:
    """Return the first trouble; what can't be read is none.

    Args:
        now: what the device tells.
        free_share: of the machine's memory, what is available beside the task, 0 to 1.
        comfort: of the user.
        resting: judge by the stricter marks that end a rest.
    """
    return (
        _battery(now, comfort, resting)
        or _heat(now, comfort, resting)
        or _pressure(now, free_share, resting)
    )


def _battery(now: Conditions, comfort: Comfort, resting: bool) -> Trouble | None:
    if now.battery_percent is None or now.on_mains:
        return None
    least = comfort.min_battery_percent + (_FULLER_PERCENT if resting else 0.0)
    if comfort.min_battery_percent <= 0 or now.battery_percent >= min(least, 100.0):
        return None
    return Trouble(
        "battery",
        f"the battery has {now.battery_percent:.0f} %, and no charger is there; training goes on "
        f"from {min(comfort.min_battery_percent + _FULLER_PERCENT, 100.0):.0f} %, or on mains",
    )


def _heat(now: Conditions, comfort: Comfort, resting: bool) -> Trouble | None:
    if now.throttled:
        return Trouble("throttled", "the device slows itself down")
    if now.temperature_c is None:
        return None
    limit_c = comfort.max_temperature_c
    if limit_c is None:
        known_c = now.temperature_limit_c
        limit_c = USUAL_LIMIT_C if known_c is None else known_c - _BELOW_LIMIT_C
    if now.temperature_c < limit_c - (_COOLER_C if resting else 0.0):
        return None
    return Trouble(
        "throttled",
        f"the device has {now.temperature_c:.0f} °C; training stops at {limit_c:.0f} °C and goes "
        f"on below {limit_c - _COOLER_C:.0f} °C",
    )


def _pressure(now: Conditions, free_share: float | None, resting: bool) -> Trouble | None:
    if now.memory_full_avg10 is None or free_share is None:
        return None
    short = free_share < _SHORT_SHARE
    if resting:
        if not short and now.memory_full_avg10 < _CALM_PERCENT:
            return None
    elif not short or now.memory_full_avg10 < _PRESSURE_PERCENT:
        return None
    return Trouble(
        "pressure",
        f"everything waits for memory {now.memory_full_avg10:.0f} % of the time, and "
        f"{free_share:.0%} of it is free",
    )
