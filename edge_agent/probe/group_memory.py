"""The limits of our control groups, and how much of each is taken.

v2 ``memory.max`` and ``memory.high`` (https://docs.kernel.org/admin-guide/cgroup-v2.html), v1
``memory.limit_in_bytes`` (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html).
"""

from pathlib import Path

import msgspec

from edge_agent.probe.cgroups import Level, levels
from edge_agent.probe.reading import (
    Gaps,
    UnreadableError,
    number,
    read,
    read_number,
    read_or_none,
    whole,
)

#: v1 writes "no limit" as the greatest page-aligned 63-bit number.
_V1_UNLIMITED = 1 << 60
_HIERARCHICAL = "hierarchical_memory_limit"


class GroupMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A control group with a limit, and how much of it is taken."""

    folder: str
    file: str  # which holds the limit, and its line where it holds more
    limit_bytes: int
    used_bytes: int | None
    reclaimable_bytes: int | None  # file cache in it, which the kernel gives up first
    missing: dict[str, str] = {}

    def taken_bytes(self) -> int | None:
        """Return what the kernel can't give up; None where the group doesn't tell its use."""
        if self.used_bytes is None:
            return None
        return max(0, self.used_bytes - (self.reclaimable_bytes or 0))


def group_limits(root: Path) -> list[GroupMemory]:
    """Return every limit of our groups, from our own upwards.

    Raises:
        UnreadableError: the system doesn't say which groups are ours.
    """
    found = []
    ours = levels(root, "memory")
    for level in ours:
        names = ("memory.max", "memory.high") if level.version == 2 else ("memory.limit_in_bytes",)
        for name in names:
            limit_bytes = whole(read_or_none(root, f"{level.folder}/{name}") or "max")
            if limit_bytes is not None and 0 <= limit_bytes < _V1_UNLIMITED:
                found.append(_group(root, level, name, limit_bytes))
    for top in [level for level in ours if level.version == 1][-1:]:
        hidden_bytes = _hierarchical_limit(root, top)
        if hidden_bytes is not None and all(hidden_bytes < one.limit_bytes for one in found):
            found.append(_group(root, top, f"memory.stat {_HIERARCHICAL}", hidden_bytes))
    return found


def _hierarchical_limit(root: Path, level: Level) -> int | None:
    """Return the limit that v1 tells of groups above, which a container can't see itself."""
    for line in (read_or_none(root, f"{level.folder}/memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == _HIERARCHICAL:
            limit_bytes = whole(value)
            return limit_bytes if limit_bytes is not None and limit_bytes < _V1_UNLIMITED else None
    return None


def _group(root: Path, level: Level, file: str, limit_bytes: int) -> GroupMemory:
    usage = "memory.current" if level.version == 2 else "memory.usage_in_bytes"
    gaps = Gaps()
    return GroupMemory(
        folder=f"/{level.folder}",
        file=file,
        limit_bytes=limit_bytes,
        used_bytes=gaps.fill("used_bytes", lambda: read_number(root, f"{level.folder}/{usage}")),
        reclaimable_bytes=gaps.fill("reclaimable_bytes", lambda: _file_cache(root, level)),
        missing=gaps.reasons,
    )


def _file_cache(root: Path, level: Level) -> int:
    """Return the file cache of a group and of those below it."""
    name = f"{level.folder}/memory.stat"
    prefix = "" if level.version == 2 else "total_"
    wanted = {f"{prefix}inactive_file", f"{prefix}active_file"}
    lines = [line.split(" ") for line in read(root, name).splitlines()]
    values = [number(line[1], f"/{name}") for line in lines if len(line) == 2 and line[0] in wanted]
    if not values:
        raise UnreadableError(f"/{name} tells no file cache")
    return sum(values)
