"""The memory an agent may use: the least of every limit above it.

psutil alone reports the host, which is wrong in a container; so the cgroup ancestry is read:
v2 ``memory.max`` and ``memory.high`` (https://docs.kernel.org/admin-guide/cgroup-v2.html),
v1 ``memory.limit_in_bytes`` (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html).
"""

from pathlib import Path

import msgspec
import psutil

#: v1 writes "no limit" as the greatest page-aligned 63-bit number.
_V1_UNLIMITED = 1 << 60


class MemoryLimit(msgspec.Struct, frozen=True):
    """How much memory there is, and what says so."""

    limit_bytes: int
    reason: str


def memory_limit(asked_bytes: int | None = None, root: Path = Path("/")) -> MemoryLimit:
    """Return the least limit over what was asked for, the cgroups and what is available.

    Args:
        asked_bytes: ``--memory``.
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    found = [MemoryLimit(_available_bytes(root), "memory that is available")]
    found += _cgroup_limits(root)
    if asked_bytes is not None:
        found.append(MemoryLimit(asked_bytes, "--memory"))
    return min(found, key=lambda limit: limit.limit_bytes)


def _available_bytes(root: Path) -> int:
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return int(psutil.virtual_memory().available)


def _cgroup_limits(root: Path) -> list[MemoryLimit]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits: list[MemoryLimit] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            for mount in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                limits += _walk(root / mount, group, ("memory.max", "memory.high"))
        elif "memory" in controllers.split(","):
            limits += _walk(root / "sys/fs/cgroup/memory", group, ("memory.limit_in_bytes",))
    return limits


def _walk(mount: Path, group: str, names: tuple[str, ...]) -> list[MemoryLimit]:
    """Read a limit in each group from ours up to the mount's own.

    Inside a container the path of ``/proc/self/cgroup`` may be the host's, of which only the
    mount itself is visible: missing folders are passed over.
    """
    limits = []
    levels = [part for part in group.split("/") if part and part != ".."]
    for depth in range(len(levels), -1, -1):
        folder = mount.joinpath(*levels[:depth])
        for name in names:
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _V1_UNLIMITED:
                limits.append(MemoryLimit(int(text), f"cgroup {name}"))
    return limits


def parse_size(text: str) -> int:
    """Return a size in bytes: ``700MB``, ``1.5GiB``, ``900000``.

    Raises:
        ValueError: not a positive number with one of these units.
    """
    units = {
        "": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
        "kib": 2**10, "mib": 2**20, "gib": 2**30,
    }  # fmt: skip
    cleaned = text.strip().lower()
    number = cleaned.rstrip("bgikm ")
    unit = cleaned[len(number) :].strip()
    try:
        size_bytes = int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        size_bytes = 0
    if size_bytes <= 0:
        raise ValueError(f"{text!r} is not a size; write for example 700MB or 1.5GiB.")
    return size_bytes
