"""The memory an agent may use: the least of every limit above it, and what of it is free.

What is available tells of the host alone, which is wrong in a container; so the control groups
above us are read as well.

The memory of an integrated GPU is this same memory: it is never added.
"""

from pathlib import Path

import msgspec

from edge_agent.probe.group_memory import GroupMemory, group_limits
from edge_agent.probe.reading import Gaps, UnreadableError, number, read

#: Page tables, buffers and slabs of our own processes are charged to their group as well; less
#: than this is not taken for another process's.
_UNEXPLAINED_BYTES = 32 * 1024 * 1024


class MemoryLimit(msgspec.Struct, frozen=True):
    """How much memory there is, and what says so."""

    limit_bytes: int
    reason: str


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The memory of the device, as far as the agent may use it."""

    limit_bytes: int | None  # for the whole agent
    limit_reason: str | None
    free_bytes: int | None  # what it may still take now
    free_reason: str | None
    total_bytes: int | None  # of the machine
    available_bytes: int | None
    groups: list[GroupMemory] | None  # those with a limit, from our own upwards
    missing: dict[str, str] = {}


def memory(root: Path = Path("/"), asked_bytes: int | None = None) -> Memory:
    """Return all that is known of the memory.

    Args:
        root: where ``proc`` and ``sys`` are; another folder in tests.
        asked_bytes: ``--memory``.
    """
    gaps = Gaps()
    limit = gaps.fill("limit_bytes", lambda: memory_limit(asked_bytes, root))
    free = gaps.fill("free_bytes", lambda: memory_free(asked_bytes, root))
    for field in ("limit", "free"):
        if f"{field}_bytes" in gaps.reasons:
            gaps.reasons[f"{field}_reason"] = gaps.reasons[f"{field}_bytes"]
    return Memory(
        limit_bytes=limit.limit_bytes if limit else None,
        limit_reason=limit.reason if limit else None,
        free_bytes=free.limit_bytes if free else None,
        free_reason=free.reason if free else None,
        total_bytes=gaps.fill("total_bytes", lambda: _meminfo(root, "MemTotal")),
        available_bytes=gaps.fill("available_bytes", lambda: _meminfo(root, "MemAvailable")),
        groups=gaps.fill("groups", lambda: group_limits(root)),
        missing=gaps.reasons,
    )


def memory_limit(
    asked_bytes: int | None = None, root: Path = Path("/"), own_bytes: int | None = None
) -> MemoryLimit:
    """Return the least limit over what was asked for, the cgroups and what is available.

    What other processes hold of a group's memory is not ours to use, so it is taken off; what
    the agent itself holds is ours already.

    Args:
        asked_bytes: ``--memory``.
        root: where ``proc`` and ``sys`` are; another folder in tests.
        own_bytes: what the agent's processes hold now; by default this process alone.

    Raises:
        UnreadableError: nothing tells how much memory there is, and nothing was asked for.
    """
    own = _own_bytes(root) if own_bytes is None else own_bytes
    found, reason = _available(root, own)
    for group in _groups_or_none(root):
        found.append(MemoryLimit(group.limit_bytes, f"cgroup {group.file}"))
        others_bytes = (group.taken_bytes() or 0) - own
        if others_bytes > _UNEXPLAINED_BYTES:
            left_bytes = max(0, group.limit_bytes - others_bytes)
            found.append(MemoryLimit(left_bytes, f"cgroup {group.file}, less what others hold"))
    if asked_bytes is not None:
        found.append(MemoryLimit(asked_bytes, "--memory"))
    if not found:
        raise UnreadableError(f"{reason}. Say how much the agent may use with --memory.")
    return min(found, key=lambda limit: limit.limit_bytes)


def memory_free(asked_bytes: int | None = None, root: Path = Path("/")) -> MemoryLimit:
    """Return what this process may still take: the least rest of any limit.

    Args:
        asked_bytes: ``--memory``.
        root: where ``proc`` and ``sys`` are; another folder in tests.

    Raises:
        UnreadableError: nothing tells it.
    """
    found, reason = _available(root, 0)
    for group in _groups_or_none(root):
        taken_bytes = group.taken_bytes()
        if taken_bytes is not None:
            rest_bytes = max(0, group.limit_bytes - taken_bytes)
            found.append(MemoryLimit(rest_bytes, f"cgroup {group.file}, less what is used"))
    if asked_bytes is not None:
        rest_bytes = max(0, asked_bytes - _own_bytes(root))
        found.append(MemoryLimit(rest_bytes, "--memory, less what this process holds"))
    if not found:
        raise UnreadableError(reason)
    return min(found, key=lambda limit: limit.limit_bytes)


def _available(root: Path, own_bytes: int) -> tuple[list[MemoryLimit], str]:
    """Return the machine's limit, or none and the reason."""
    try:
        available_bytes = _meminfo(root, "MemAvailable")
    except UnreadableError as error:
        return [], str(error)
    return [MemoryLimit(available_bytes + own_bytes, "memory that is available")], ""


def _meminfo(root: Path, name: str) -> int:
    """Return a line of ``/proc/meminfo`` in bytes; psutil's answer where there is no ``/proc``."""
    try:
        return _kilobytes(root, "proc/meminfo", name)
    except UnreadableError:
        if root != Path("/") or (root / "proc").is_dir():
            raise
    import psutil

    found = psutil.virtual_memory()
    return int(found.total if name == "MemTotal" else found.available)


def _kilobytes(root: Path, file: str, name: str) -> int:
    for line in read(root, file).splitlines():
        key, _, value = line.partition(":")
        if key == name and value.endswith(" kB"):
            return number(value.removesuffix(" kB").strip(), f"{name} in /{file}") * 1024
    raise UnreadableError(f"/{file} has no {name}")


def _own_bytes(root: Path) -> int:
    """Return this process's anonymous memory; file pages are the page cache's."""
    try:
        return _kilobytes(root, "proc/self/status", "RssAnon")
    except UnreadableError:
        return 0


def _groups_or_none(root: Path) -> list[GroupMemory]:
    try:
        return group_limits(root)
    except UnreadableError:
        return []


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
