"""The few readings by which a running task is paused; cheap enough for every few seconds."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.probe.battery import battery
from edge_agent.probe.pressure import Stall, group_memory_stall, machine_stall
from edge_agent.probe.reading import UnreadableError
from edge_agent.probe.thermal import hottest, sensors
from edge_agent.probe.throttling import throttling


class Conditions(msgspec.Struct, frozen=True):
    """How the device fares. What can't be read is None; `profile` has the reasons."""

    temperature_c: float | None  # of the sensor that is nearest to its limit
    temperature_limit_c: float | None  # of that sensor: where the device begins to protect itself
    throttled: bool | None  # the device slows itself down now
    battery_percent: float | None
    on_mains: bool | None
    memory_some_avg10: float | None  # percent of time; the machine's or our group's, the greater
    memory_full_avg10: float | None


def conditions(root: Path = Path("/")) -> Conditions:
    """Return the present conditions. Never raises; starts a process at most once a minute.

    Args:
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    try:
        sensor = hottest(sensors(root))
    except UnreadableError:
        sensor = None
    power = battery(root)
    stalls = _memory_stalls(root)
    return Conditions(
        temperature_c=sensor.temperature_c if sensor else None,
        temperature_limit_c=sensor.limit_c() if sensor else None,
        throttled=throttling(root).throttled,
        battery_percent=power.percent,
        on_mains=power.on_mains,
        memory_some_avg10=_greatest([stall.some_avg10 for stall in stalls]),
        memory_full_avg10=_greatest([stall.full_avg10 for stall in stalls]),
    )


def _memory_stalls(root: Path) -> list[Stall]:
    """Return the machine's and our group's: a full group waits on a machine that has room."""
    found = []
    reads: list[Callable[[], Stall]] = [
        lambda: machine_stall(root, "memory"),
        lambda: group_memory_stall(root),
    ]
    for read in reads:
        try:
            found.append(read())
        except UnreadableError:
            continue
    return found


def _greatest(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
