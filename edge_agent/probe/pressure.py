"""How long work waits for memory, processors and disks: pressure stall information.

``some`` is the share of time in which at least one task waited, ``full`` in which all did, as
averages over 10 and 60 s in percent (https://docs.kernel.org/accounting/psi.html).
"""

from pathlib import Path

import msgspec

from edge_agent.probe.cgroups import levels
from edge_agent.probe.reading import Gaps, UnreadableError, read


class Stall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stalls for one resource, in percent of time."""

    some_avg10: float | None
    some_avg60: float | None
    full_avg10: float | None
    full_avg60: float | None
    missing: dict[str, str] = {}


class Pressure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stalls of the whole machine, and of our own group for memory."""

    memory: Stall | None
    cpu: Stall | None
    io: Stall | None
    group_memory: Stall | None
    missing: dict[str, str] = {}


def pressure(root: Path) -> Pressure:
    """Return the pressure on everything."""
    gaps = Gaps()
    return Pressure(
        memory=gaps.fill("memory", lambda: machine_stall(root, "memory")),
        cpu=gaps.fill("cpu", lambda: machine_stall(root, "cpu")),
        io=gaps.fill("io", lambda: machine_stall(root, "io")),
        group_memory=gaps.fill("group_memory", lambda: group_memory_stall(root)),
        missing=gaps.reasons,
    )


def machine_stall(root: Path, resource: str) -> Stall:
    """Return the whole machine's stalls for ``memory``, ``cpu`` or ``io``.

    Raises:
        UnreadableError: the kernel counts none (before 4.20, or switched off by ``psi=0``).
    """
    return _parse(read(root, f"proc/pressure/{resource}"), f"/proc/pressure/{resource}")


def group_memory_stall(root: Path) -> Stall:
    """Return our own group's stalls for memory.

    Raises:
        UnreadableError: there is no group of version 2, or it counts none.
    """
    for level in levels(root, "memory"):
        if level.version == 2:
            name = f"{level.folder}/memory.pressure"
            return _parse(read(root, name), f"/{name}")
    raise UnreadableError("only groups of cgroup v2 count pressure, and this process is in none")


def _parse(text: str, where: str) -> Stall:
    values: dict[str, float] = {}
    for line in text.splitlines():
        kind, _, pairs = line.partition(" ")
        for pair in pairs.split():
            name, _, value = pair.partition("=")
            if name in ("avg10", "avg60") and kind in ("some", "full"):
                values[f"{kind}_{name}"] = _percent(value, where)
    if "some_avg10" not in values:
        raise UnreadableError(f"{where} holds {text[:40]!r}, which is no pressure")
    names = ("some_avg10", "some_avg60", "full_avg10", "full_avg60")
    return Stall(
        some_avg10=values.get("some_avg10"),
        some_avg60=values.get("some_avg60"),
        full_avg10=values.get("full_avg10"),
        full_avg60=values.get("full_avg60"),
        missing={name: f"{where} doesn't tell it" for name in names if name not in values},
    )


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 100.0:
        raise UnreadableError(f"{where} holds {text[:40]!r}, which is no percentage")
    return value
