"""Temperatures, and from where on the device protects itself.

Thermal zones (https://docs.kernel.org/driver-api/thermal/sysfs-api.html) have trip points:
``passive``, where the kernel slows the device down, ``hot``, and ``critical``, where it switches
it off. Sensors of hwmon (https://docs.kernel.org/hwmon/sysfs-interface.html) have ``crit`` and
``max``. All are in thousandths of a degree Celsius.

A Raspberry Pi's firmware slows the processor down from 80 °C on, which no trip point tells
(https://www.raspberrypi.com/documentation/computers/raspberry-pi.html, on thermal control).
"""

import re
from pathlib import Path

import msgspec

from edge_agent.probe.reading import (
    Gaps,
    UnreadableError,
    listing,
    read_number,
    read_or_none,
)

_ZONES = "sys/class/thermal"
_HWMON = "sys/class/hwmon"
#: A sensor that is switched off tells -274 °C; firmware leaves unset trip points at 0 or 20 °C.
_LEAST_C, _GREATEST_C = -40.0, 150.0
_LEAST_LIMIT_C = 40.0
_PI_LIMIT_C = 80.0
#: For comparing a sensor without a limit to those that have one: what silicon usually bears.
_USUAL_LIMIT_C = 95.0


class Sensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One temperature, with the limits that are known of it."""

    name: str
    source: str  # the file or zone it was read from
    temperature_c: float | None
    limits_c: dict[str, float]  # passive, hot, critical, firmware; of hwmon: critical, high
    missing: dict[str, str] = {}

    def limit_c(self) -> float | None:
        """Return where the device begins to protect itself, as far as it says so."""
        trips = [value for kind, value in self.limits_c.items() if kind != "high"]
        return min(trips) if trips else self.limits_c.get("high")


class Thermal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How warm the device is, where it is nearest to a limit."""

    temperature_c: float | None
    limit_c: float | None
    sensor: str | None
    sensors: list[Sensor] | None
    missing: dict[str, str] = {}


def thermal(root: Path) -> Thermal:
    """Return all temperatures, and the one that matters."""
    gaps = Gaps()
    found = gaps.fill("sensors", lambda: sensors(root))
    worst = hottest(found or [])
    missing = dict(gaps.reasons)
    if worst is None:
        reason = missing.get("sensors", "no sensor can be read")
        missing |= dict.fromkeys(("temperature_c", "limit_c", "sensor"), reason)
    elif worst.limit_c() is None:
        missing["limit_c"] = f"{worst.source} tells none"
    return Thermal(
        temperature_c=worst.temperature_c if worst else None,
        limit_c=worst.limit_c() if worst else None,
        sensor=worst.name if worst else None,
        sensors=found,
        missing=missing,
    )


def sensors(root: Path) -> list[Sensor]:
    """Return every sensor, the unreadable ones with their reason.

    Raises:
        UnreadableError: there is none at all.
    """
    found: list[Sensor] = []
    reasons = []
    for folder, kind in ((_ZONES, _zones), (_HWMON, _hwmon)):
        try:
            found += kind(root)
            reasons.append(f"/{folder} lists no sensor")
        except UnreadableError as error:
            reasons.append(str(error))
    if not found:
        raise UnreadableError("; ".join(reasons))
    return found


def hottest(found: list[Sensor]) -> Sensor | None:
    """Return the sensor that is nearest to its limit, or furthest above it.

    Args:
        found: of `sensors`.
    """
    readable = [sensor for sensor in found if sensor.temperature_c is not None]
    return max(readable, key=_above_limit, default=None)


def _above_limit(sensor: Sensor) -> float:
    limit_c = sensor.limit_c()
    return (sensor.temperature_c or 0.0) - (_USUAL_LIMIT_C if limit_c is None else limit_c)


def _zones(root: Path) -> list[Sensor]:
    return [_zone(root, f"{_ZONES}/{zone}") for zone in listing(root, _ZONES, "thermal_zone")]


def _zone(root: Path, folder: str) -> Sensor:
    gaps = Gaps()
    name = read_or_none(root, f"{folder}/type") or folder.rpartition("/")[2]
    limits_c = _trips(root, folder)
    if name == "cpu-thermal" and _is_raspberry_pi(root):
        limits_c["firmware"] = _PI_LIMIT_C
    return Sensor(
        name=name,
        source=f"/{folder}",
        temperature_c=gaps.fill("temperature_c", lambda: _celsius(root, f"{folder}/temp")),
        limits_c=limits_c,
        missing=gaps.reasons,
    )


def _is_raspberry_pi(root: Path) -> bool:
    return (read_or_none(root, "proc/device-tree/compatible") or "").startswith("raspberrypi,")


def _trips(root: Path, folder: str) -> dict[str, float]:
    """Return the lowest trip point of each kind."""
    trips: dict[str, float] = {}
    for name in _names(root, folder, "trip_point_"):
        point = re.fullmatch(r"(trip_point_\d+)_type", name)
        kind = read_or_none(root, f"{folder}/{name}") if point else None
        if point and kind in ("passive", "hot", "critical"):
            limit_c = _limit(root, f"{folder}/{point[1]}_temp")
            if limit_c is not None:
                trips[kind] = min(limit_c, trips.get(kind, limit_c))
    return trips


def _hwmon(root: Path) -> list[Sensor]:
    found = []
    for chip in listing(root, _HWMON, "hwmon"):
        folder = f"{_HWMON}/{chip}"
        for file in _names(root, folder, "temp"):
            if re.fullmatch(r"temp\d+_input", file):
                found.append(_hwmon_sensor(root, folder, file.removesuffix("_input")))
    return found


def _hwmon_sensor(root: Path, folder: str, name: str) -> Sensor:
    gaps = Gaps()
    chip = read_or_none(root, f"{folder}/name") or folder.rpartition("/")[2]
    label = read_or_none(root, f"{folder}/{name}_label")
    limits = {
        "critical": _limit(root, f"{folder}/{name}_crit"),
        "high": _limit(root, f"{folder}/{name}_max"),
    }
    return Sensor(
        name=f"{chip} {label}" if label else chip,
        source=f"/{folder}/{name}_input",
        temperature_c=gaps.fill("temperature_c", lambda: _celsius(root, f"{folder}/{name}_input")),
        limits_c={kind: value for kind, value in limits.items() if value is not None},
        missing=gaps.reasons,
    )


def _names(root: Path, folder: str, prefix: str) -> list[str]:
    try:
        return listing(root, folder, prefix)
    except UnreadableError:  # the sensor beside it may be readable
        return []


def _celsius(root: Path, name: str) -> float:
    value_c = read_number(root, name) / 1000.0
    if not _LEAST_C <= value_c <= _GREATEST_C:
        raise UnreadableError(f"/{name} tells {value_c:g} °C, which no running device has")
    return value_c


def _limit(root: Path, name: str) -> float | None:
    """Return a limit, or None where the firmware left it unset or wrote nonsense."""
    try:
        value_c = read_number(root, name) / 1000.0
    except UnreadableError:
        return None
    return value_c if _LEAST_LIMIT_C <= value_c <= _GREATEST_C else None
