"""Whether the device slows itself down, now and since it started.

A Raspberry Pi's firmware tells both in one number
(https://www.raspberrypi.com/documentation/computers/os.html#get_throttled), which the kernel shows
in hexadecimal. Elsewhere the kernel's cooling devices tell how far processors and GPUs are slowed
down (https://docs.kernel.org/driver-api/thermal/sysfs-api.html), and x86 counts how often
(drivers/thermal/intel/therm_throt.c in Linux).
"""

from pathlib import Path

import msgspec

from edge_agent.probe.reading import (
    Gaps,
    UnreadableError,
    listing,
    read_number,
    read_or_none,
    whole,
)

_PLATFORM = "sys/devices/platform"
_THERMAL = "sys/class/thermal"
_CPUS = "sys/devices/system/cpu"
#: Bits of the firmware's number; 16 places higher they stand for "has occurred".
_PI_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_EVER_SHIFT = 16
#: Under-voltage by itself slows nothing down: the firmware then sets the others as well.
_PI_SLOWED = 0b1110
#: Cooling devices that slow the arithmetic down; others are fans, lamps and radios.
_SLOWING = ("Processor", "cpufreq", "thermal-cpufreq", "devfreq", "cpu-throttle", "gpu-throttle")


class Throttling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the device is slowed down, and by what."""

    throttled: bool | None
    now: list[str] | None
    ever: list[str] | None  # since the device started
    missing: dict[str, str] = {}


def throttling(root: Path) -> Throttling:
    """Return what slows the device down; None where nothing tells it."""
    try:
        bits = _pi_bits(root)
    except UnreadableError:
        return _by_cooling(root)
    return Throttling(
        throttled=bool(bits & _PI_SLOWED),
        now=[word for bit, word in _PI_BITS.items() if bits >> bit & 1],
        ever=[word for bit, word in _PI_BITS.items() if bits >> bit + _EVER_SHIFT & 1],
    )


def _pi_bits(root: Path) -> int:
    """Return the firmware's number; where it stands differs from model to model."""
    for soc in listing(root, _PLATFORM, "soc"):
        folder = f"{_PLATFORM}/{soc}"
        places = [folder, *(f"{folder}/{child}" for child in _firmware(root, folder))]
        for place in places:
            text = read_or_none(root, f"{place}/get_throttled")
            if text is not None:
                return _hexadecimal(text, f"/{place}/get_throttled")
    raise UnreadableError(f"no get_throttled in /{_PLATFORM}")


def _firmware(root: Path, folder: str) -> list[str]:
    try:
        return [name for name in listing(root, folder) if name.endswith("firmware")]
    except UnreadableError:
        return []


def _hexadecimal(text: str, where: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise UnreadableError(f"{where} holds {text[:40]!r}, which is no number") from error


def _by_cooling(root: Path) -> Throttling:
    gaps = Gaps()
    slowed = gaps.fill("now", lambda: _slowed(root))
    if slowed is None:
        gaps.reasons["throttled"] = gaps.reasons["now"]
    return Throttling(
        throttled=None if slowed is None else bool(slowed),
        now=slowed,
        ever=gaps.fill("ever", lambda: _counted(root)),
        missing=gaps.reasons,
    )


def _slowed(root: Path) -> list[str]:
    """Return each cooling device that slows something down now."""
    readable, found = False, []
    for device in listing(root, _THERMAL, "cooling_device"):
        folder = f"{_THERMAL}/{device}"
        kind = read_or_none(root, f"{folder}/type") or ""
        state = whole(read_or_none(root, f"{folder}/cur_state") or "")
        if not kind.startswith(_SLOWING) or state is None:
            continue
        readable = True
        if state > 0:
            found.append(f"{kind} at {state} of {read_or_none(root, f'{folder}/max_state')}")
    if not readable:
        raise UnreadableError(f"no cooling device of a processor in /{_THERMAL}")
    return list(dict.fromkeys(found))  # a PC has one for each thread, all in the same state


def _counted(root: Path) -> list[str]:
    """Return how often the first processor's package was throttled, where x86 counts it."""
    try:
        times = read_number(root, f"{_CPUS}/cpu0/thermal_throttle/package_throttle_count")
    except UnreadableError as error:
        why = "only a Raspberry Pi's firmware and x86 processors keep it"
        raise UnreadableError(why) from error
    return [f"processor throttled {times} times"] if times else []
