"""The battery, and whether the device runs on it.

Linux shows batteries and chargers in ``/sys/class/power_supply``
(https://docs.kernel.org/power/power_supply_class.html); a phone's are asked for through Termux;
psutil serves on other systems.
"""

from pathlib import Path

import msgspec

from edge_agent.probe.reading import (
    UnreadableError,
    listing,
    number,
    read_number,
    read_or_none,
)
from edge_agent.probe.termux import PROGRAM, TermuxBattery

_SUPPLIES = "sys/class/power_supply"
_CHARGERS = ("Mains", "USB", "USB_C", "USB_PD", "Wireless")
_termux = TermuxBattery()


class _NoBatteryError(UnreadableError):
    """The device has none: nobody else needs to be asked."""


class Battery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How full the battery is, and what feeds the device."""

    percent: float | None
    on_mains: bool | None
    status: str | None  # charging, discharging, full, not charging
    temperature_c: float | None
    missing: dict[str, str] = {}


def battery(root: Path) -> Battery:
    """Return the battery's state; a phone's may be a minute old."""
    reasons = []
    for read in (_of_supplies, _of_termux, _of_psutil):
        try:
            return read(root)
        except UnreadableError as error:
            reasons.append(str(error))
            if isinstance(error, _NoBatteryError):
                # A charger that feeds nothing proves no battery: the device has another supply.
                return _filled(None, _charger_online(root) or None, None, None, str(error))
    reason = "; ".join(reason for reason in reasons if reason)
    return _filled(None, _charger_online(root), None, None, reason)


def _filled(
    percent: float | None,
    on_mains: bool | None,
    status: str | None,
    temperature_c: float | None,
    reason: str,
) -> Battery:
    """Return a battery in which everything that is None has the same reason."""
    values = {
        "percent": percent,
        "on_mains": on_mains,
        "status": status,
        "temperature_c": temperature_c,
    }
    return Battery(
        percent=percent,
        on_mains=on_mains,
        status=status,
        temperature_c=temperature_c,
        missing={name: reason for name, value in values.items() if value is None},
    )


def _of_supplies(root: Path) -> Battery:
    """Return the mean of the device's batteries; those of its mouse and keyboard don't count."""
    batteries = []
    for supply in listing(root, _SUPPLIES):
        folder = f"{_SUPPLIES}/{supply}"
        ours = read_or_none(root, f"{folder}/scope") != "Device"
        if ours and read_or_none(root, f"{folder}/type") == "Battery":
            batteries.append(folder)
    if not batteries:
        raise _NoBatteryError(f"no battery is listed in /{_SUPPLIES}")
    levels = [_percent(root, folder) for folder in batteries]
    states = [(read_or_none(root, f"{folder}/status") or "").lower() for folder in batteries]
    # A second battery rests while the first one is used.
    busy = [state for state in states if state in ("discharging", "charging")]
    known = [state for state in states if state not in ("", "unknown")]
    status = next(iter(busy or known), None)
    return _filled(
        sum(levels) / len(levels),
        _on_mains(status, _charger_online(root)),
        status,
        _hottest(root, batteries),
        f"the driver of {' and '.join(f'/{folder}' for folder in batteries)} doesn't tell it",
    )


def _percent(root: Path, folder: str) -> float:
    level = read_number(root, f"{folder}/capacity")
    if not 0 <= level <= 100:
        raise UnreadableError(f"/{folder}/capacity tells {level} percent")
    return float(level)


def _on_mains(status: str | None, charger: bool | None) -> bool | None:
    """Return what feeds the device: the battery itself knows best, then a charger."""
    if status in ("discharging", "charging", "full", "not charging"):
        return status != "discharging"
    return charger


def _charger_online(root: Path) -> bool | None:
    """Return whether any charger feeds the device; None without one that is listed."""
    online = []
    try:
        for supply in listing(root, _SUPPLIES):
            if read_or_none(root, f"{_SUPPLIES}/{supply}/type") in _CHARGERS:
                state = read_or_none(root, f"{_SUPPLIES}/{supply}/online")
                online += [state != "0"] if state else []
    except UnreadableError:
        return None
    return any(online) if online else None


def _hottest(root: Path, batteries: list[str]) -> float | None:
    """Return the greatest temperature; the class counts tenths of a degree."""
    tenths = []
    for folder in batteries:
        text = read_or_none(root, f"{folder}/temp")
        if text is not None:
            try:
                tenths.append(number(text, folder))
            except UnreadableError:
                continue
    return max(tenths) / 10.0 if tenths else None


def _of_termux(_root: Path) -> Battery:
    answer = _termux.status()
    status = answer.status.lower().replace("_", " ") if answer.status else None
    plugged = answer.plugged.startswith("PLUGGED") if answer.plugged else None
    return _filled(
        answer.percentage,
        _on_mains(status, None) if plugged is None else plugged,
        status,
        answer.temperature_c(),
        f"{PROGRAM} doesn't tell it",
    )


def _of_psutil(root: Path) -> Battery:
    """Ask psutil, where there is no ``/sys``: it can't look below another root."""
    if root != Path("/") or (root / "sys").is_dir():
        raise UnreadableError("")
    import psutil

    try:
        found = psutil.sensors_battery()
    except (OSError, AttributeError, NotImplementedError, psutil.Error) as error:
        raise UnreadableError(f"psutil can't read a battery: {type(error).__name__}") from error
    if found is None:
        raise UnreadableError("psutil finds no battery")
    return _filled(float(found.percent), found.power_plugged, None, None, "psutil doesn't tell it")
