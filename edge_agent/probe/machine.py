"""What kind of machine this is, and how much of its processors we may use.

A control group's quota is time of all processors in a period: v2 ``cpu.max``
(https://docs.kernel.org/admin-guide/cgroup-v2.html), v1 ``cpu.cfs_quota_us``
(https://docs.kernel.org/scheduler/sched-bwc.html).
"""

import os
import platform
from pathlib import Path

import msgspec

from edge_agent.probe.cgroups import Level, levels
from edge_agent.probe.reading import Gaps, UnreadableError, number, read, read_or_none, whole

_ROOT = Path("/")


class Machine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine and its processors."""

    machine: str | None  # x86_64, aarch64, ...
    model: str | None
    kernel: str | None
    cores: int | None  # that are switched on
    allowed_cores: int | None  # by this process's affinity
    quota_cores: float | None  # by the least quota of a control group
    usable_cores: float | None  # by both; what threads are counted by
    missing: dict[str, str] = {}


def describe_machine(root: Path = _ROOT) -> Machine:
    """Return what is known of the machine.

    Args:
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    gaps = Gaps()
    return Machine(
        machine=gaps.fill("machine", lambda: _architecture(root)),
        model=gaps.fill("model", lambda: _model(root)),
        kernel=gaps.fill("kernel", lambda: read(root, "proc/sys/kernel/osrelease")),
        cores=gaps.fill("cores", lambda: _online_cores(root)),
        allowed_cores=gaps.fill("allowed_cores", lambda: _allowed_cores(root)),
        quota_cores=gaps.fill("quota_cores", lambda: quota_cores(root)),
        usable_cores=gaps.fill("usable_cores", lambda: _usable_cores(root)),
        missing=gaps.reasons,
    )


def machine() -> str:
    """Return the processor's family: x86_64, aarch64, ..."""
    return platform.machine()


def cores(root: Path = _ROOT) -> float:
    """Return how many cores this process may use, by affinity and quota; at least 1."""
    try:
        return _usable_cores(root)
    except UnreadableError:
        return 1.0


def _usable_cores(root: Path) -> float:
    try:
        most = float(_allowed_cores(root))
    except UnreadableError:
        most = float(_online_cores(root))
    try:
        return max(1.0, min(most, quota_cores(root)))
    except UnreadableError:
        return most


def quota_cores(root: Path = _ROOT) -> float:
    """Return the least quota over our control groups, as a number of cores.

    Raises:
        UnreadableError: there is no quota, or the system doesn't say which groups are ours.
    """
    quotas = [_quota(root, level) for level in levels(root, "cpu")]
    found = [quota for quota in quotas if quota is not None]
    if not found:
        raise UnreadableError("no control group sets a quota")
    return min(found)


def _quota(root: Path, level: Level) -> float | None:
    if level.version == 2:
        words = (read_or_none(root, f"{level.folder}/cpu.max") or "max").partition(" ")
        quota, period = whole(words[0]), whole(words[2])
    else:
        quota = whole(read_or_none(root, f"{level.folder}/cpu.cfs_quota_us") or "-1")
        period = whole(read_or_none(root, f"{level.folder}/cpu.cfs_period_us") or "")
    if quota is None or period is None or quota < 0 or period <= 0:
        return None  # "max" and -1 stand for no quota
    return quota / period


def _allowed_cores(root: Path) -> int:
    if root == _ROOT and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    for line in read(root, "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return _count(value.strip(), "Cpus_allowed_list in /proc/self/status")
    raise UnreadableError("/proc/self/status has no Cpus_allowed_list")


def _online_cores(root: Path) -> int:
    name = "sys/devices/system/cpu/online"
    try:
        return _count(read(root, name), f"/{name}")
    except UnreadableError:
        count = os.cpu_count() if root == _ROOT else None
        if count is None:
            raise
        return count


def _count(text: str, where: str) -> int:
    """Return how many numbers a list such as ``0-3,8`` names."""
    count = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        count += (number(last, where) if dash else number(first, where)) - number(first, where) + 1
    if count < 1:
        raise UnreadableError(f"{where} holds {text[:40]!r}, which is no list of processors")
    return count


def _architecture(root: Path) -> str:
    try:
        return read(root, "proc/sys/kernel/arch")  # since Linux 6.1
    except UnreadableError:
        if root == _ROOT:
            return machine()
        raise


def _model(root: Path) -> str:
    """Return the board's name: the device tree's, or what the firmware of a PC says."""
    tree = read_or_none(root, "proc/device-tree/model")
    if tree:
        return tree
    names = [
        read_or_none(root, f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")
    ]
    found = " ".join(name for name in names if name)
    if not found:
        raise UnreadableError("neither /proc/device-tree/model nor /sys/class/dmi/id tells it")
    return found
