"""Our control groups, from our own up to the highest that can be seen.

A limit of any of them binds, so whoever reads one reads them all
(https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html). Where they are mounted is told by
``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
"""

import re
from pathlib import Path
from typing import NamedTuple

from edge_agent.probe.reading import UnreadableError, read


class Level(NamedTuple):
    """One group."""

    version: int  # 1 or 2
    folder: str  # below the root, as in "sys/fs/cgroup/user.slice"


class _Mount(NamedTuple):
    """A mounted hierarchy."""

    version: int
    controllers: frozenset[str]  # of version 1
    group: str  # which group its top is
    point: str


#: Where they usually are, for a system that doesn't show its mounts.
_USUAL = [
    _Mount(2, frozenset(), "/", "/sys/fs/cgroup"),
    _Mount(2, frozenset(), "/", "/sys/fs/cgroup/unified"),
    _Mount(1, frozenset({"memory"}), "/", "/sys/fs/cgroup/memory"),
    _Mount(1, frozenset({"cpu"}), "/", "/sys/fs/cgroup/cpu"),
    _Mount(1, frozenset({"cpu"}), "/", "/sys/fs/cgroup/cpu,cpuacct"),
]


def levels(root: Path, controller: str) -> list[Level]:
    """Return our groups of version 2 and of a version 1 controller, each from ours upwards.

    Args:
        root: where ``proc`` and ``sys`` are.
        controller: ``memory`` or ``cpu``.

    Raises:
        UnreadableError: the system doesn't say which groups are ours.
    """
    found = []
    mounts = _mounts(root)
    for line in read(root, "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for mount in mounts:
            ours = controllers == "" if mount.version == 2 else controller in controllers.split(",")
            if ours and (mount.version == 2 or controller in mount.controllers):
                found += [Level(mount.version, folder) for folder in _upwards(root, mount, group)]
    return found


def _mounts(root: Path) -> list[_Mount]:
    try:
        lines = read(root, "proc/self/mountinfo").splitlines()
    except UnreadableError:
        return _USUAL
    found = []
    for line in lines:
        mount, _, filesystem = line.partition(" - ")
        before, after = mount.split(), filesystem.split()
        if len(before) < 5 or len(after) < 3 or after[0] not in ("cgroup", "cgroup2"):
            continue
        version = 2 if after[0] == "cgroup2" else 1
        controllers = frozenset(after[2].split(","))
        found.append(_Mount(version, controllers, _plain(before[3]), _plain(before[4])))
    return found or _USUAL


def _plain(path: str) -> str:
    """Undo the octal escapes for white space."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), path)


def _upwards(root: Path, mount: _Mount, group: str) -> list[str]:
    """Return the folders from a group up to the mount's own, as far as they can be seen.

    Inside a container the group's path may be the host's, of which only the mount itself is
    visible: folders that are missing are passed over.
    """
    top = mount.group.rstrip("/")
    below = group.removeprefix(top) if f"{group}/".startswith(f"{top}/") else ""
    parts = [part for part in below.split("/") if part]
    if ".." in parts:  # outside of our cgroup namespace
        parts = []
    point = mount.point.strip("/")
    folders = ["/".join([point, *parts[:depth]]) for depth in range(len(parts), -1, -1)]
    return [folder for folder in folders if _is_folder(root / folder)]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
