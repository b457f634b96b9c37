"""The network interfaces, and which of them leads out.

``/sys/class/net`` (https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-net) and the
routes of ``/proc/net`` (proc_pid_net(5)).
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.probe.reading import (
    Gaps,
    UnreadableError,
    listing,
    read,
    read_number,
    read_or_none,
    whole,
)

_NET = "sys/class/net"
#: Types of ``include/uapi/linux/if_arp.h``.
_ETHERNET, _PPP, _RAWIP, _TUNNEL, _LOOPBACK = "1", "512", "519", "65534", "772"
_ROUTE_UP = 0x1
#: What phones and modem drivers call their interfaces.
_CELLULAR = ("rmnet", "wwan", "ccmni", "pdp")


class Interface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One network interface."""

    name: str
    kind: str  # ethernet, wifi, cellular, loopback, tunnel or other
    up: bool | None
    speed_mbit_s: int | None
    missing: dict[str, str] = {}


class Links(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device's way to the network."""

    interface: str | None  # of the default route
    kind: str | None
    speed_mbit_s: int | None
    metered: bool | None
    interfaces: list[Interface] | None
    missing: dict[str, str] = {}


def links(root: Path = Path("/")) -> Links:
    """Return the interfaces and the default route's.

    Args:
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    gaps = Gaps()
    name = gaps.fill("interface", lambda: _default_interface(root))
    interfaces = gaps.fill("interfaces", lambda: _interfaces(root))
    used = next((one for one in interfaces or [] if one.name == name), None)
    missing = {"metered": "nothing on this system tells it", **gaps.reasons}
    if used is None:
        reason = gaps.reasons.get("interface") or gaps.reasons.get("interfaces")
        reason = reason or f"/{_NET} doesn't list {name}"
        missing |= {"kind": reason, "speed_mbit_s": reason}
    elif used.speed_mbit_s is None:
        missing["speed_mbit_s"] = used.missing["speed_mbit_s"]
    return Links(
        interface=name,
        kind=used.kind if used else None,
        speed_mbit_s=used.speed_mbit_s if used else None,
        metered=None,
        interfaces=interfaces,
        missing=missing,
    )


def _interfaces(root: Path) -> list[Interface]:
    return [_interface(root, name) for name in listing(root, _NET) if (root / _NET / name).is_dir()]


def _interface(root: Path, name: str) -> Interface:
    gaps = Gaps()
    return Interface(
        name=name,
        kind=_kind(root, name),
        up=gaps.fill("up", lambda: read(root, f"{_NET}/{name}/operstate") in ("up", "unknown")),
        speed_mbit_s=gaps.fill("speed_mbit_s", lambda: _speed(root, name)),
        missing=gaps.reasons,
    )


def _kind(root: Path, name: str) -> str:
    folder = root / _NET / name
    kind = read_or_none(root, f"{_NET}/{name}/type")
    uevent = read_or_none(root, f"{_NET}/{name}/uevent") or ""
    if kind == _LOOPBACK:
        return "loopback"
    if "DEVTYPE=wlan" in uevent or (folder / "wireless").exists() or (folder / "phy80211").exists():
        return "wifi"
    if "DEVTYPE=wwan" in uevent or kind == _RAWIP or name.startswith(_CELLULAR):
        return "cellular"
    return {_ETHERNET: "ethernet", _TUNNEL: "tunnel", _PPP: "tunnel"}.get(kind or "", "other")


def _speed(root: Path, name: str) -> int:
    """Return the speed in Mbit/s; -1 stands for unknown, as with virtual interfaces."""
    speed = read_number(root, f"{_NET}/{name}/speed")
    if speed <= 0:
        raise UnreadableError(f"the driver of {name} doesn't tell it")
    return speed


def _default_interface(root: Path) -> str:
    """Return the interface of the default route with the least metric, IPv4's before IPv6's."""
    reasons = []
    for routes in (_routes_v4, _routes_v6):
        try:
            found = min(routes(root), default=None)
        except UnreadableError as error:
            reasons.append(str(error))
            continue
        if found is not None:
            return found[1]
    raise UnreadableError("; ".join(reasons) or "there is no default route")


def _routes_v4(root: Path) -> Iterator[tuple[int, str]]:
    """Yield metric and interface of each default route."""
    for line in read(root, "proc/net/route").splitlines()[1:]:
        cells = line.split()
        if len(cells) < 8 or (cells[1], cells[7]) != ("00000000", "00000000"):
            continue
        metric = whole(cells[6])
        if _hexadecimal(cells[3]) & _ROUTE_UP and metric is not None:
            yield metric, cells[0]


def _routes_v6(root: Path) -> Iterator[tuple[int, str]]:
    for line in read(root, "proc/net/ipv6_route").splitlines():
        cells = line.split()
        if len(cells) < 10 or cells[0] != "0" * 32 or cells[1] != "00" or cells[9] == "lo":
            continue  # the route through lo refuses what has no other
        if _hexadecimal(cells[8]) & _ROUTE_UP:
            yield _hexadecimal(cells[5]), cells[9]


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
