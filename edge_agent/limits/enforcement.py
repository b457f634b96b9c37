"""Holds the worker to its share of the agent's memory: by a control group, else by a watchdog.

A limit that somebody set (``--memory``, a container's) is enforced by the kernel where a group can
be made. What merely happened to be free when the agent started is planned with and watched, but
no group is made for it: the kernel would kill at a line that nobody drew.

``RLIMIT_DATA`` is no third way: it counts what is merely reserved (257 MB where 152 are used, after
importing torch [measured, torch 2.13 on x86-64]) and files that are mapped privately.
"""

import logging
import os
import re
from pathlib import Path

from edge_agent.limits.cgroup_v1 import V1Group
from edge_agent.limits.cgroup_v2 import V2Group
from edge_agent.limits.contract import Group, GroupError, remove_folder
from edge_agent.probe.cgroups import levels
from edge_agent.probe.reading import UnreadableError

log = logging.getLogger(__name__)

WATCHDOG = "watchdog"
_PREFIX = "lorikeet-"


class Enforcement:
    """What keeps the worker within its memory.

    Args:
        device: for the group's name.
        hard: whether somebody set the limit.
        root: where ``proc`` and ``sys`` are; another folder in tests.

    Attributes:
        kind: ``cgroup v1``, ``cgroup v2`` or ``watchdog``.
    """

    def __init__(self, device: str, *, hard: bool, root: Path = Path("/")) -> None:
        self._name = f"{_PREFIX}{device}-{os.getpid()}"
        self._hard = hard
        self._root = root
        self._group: Group | None = None

    def begin(self) -> None:
        """Make the group, where one is wanted and can be had; `close` takes it away."""
        if not self._hard:
            log.info("the memory limit is what is free now: a watchdog keeps it")
            return
        try:
            self._group = _make(self._root, self._name)
            log.info("the memory limit is kept by %s: %s", self.kind, self._group.folder)
        except GroupError as error:
            self._fall_back(error)

    @property
    def kind(self) -> str:
        """What is in force now."""
        return self._group.kind if self._group is not None else WATCHDOG

    def hold(self, pid: int, share_bytes: int) -> None:
        """Put a new worker under its limit, before it has imported anything.

        Args:
            pid: of the worker.
            share_bytes: what is the worker's of the agent's memory.
        """
        if self._group is None:
            return
        try:
            self._group.limit(share_bytes)
            self._group.add(pid)
        except GroupError as error:
            self._group.remove()
            self._fall_back(error)

    def adjust(self, share_bytes: int) -> None:
        """Renew a worker's limit before a task: the supervisor's part has changed a little."""
        if self._group is None:
            return
        try:
            self._group.limit(share_bytes)
        except GroupError as error:  # it holds more than that just now; the old limit stays
            log.info("the worker's limit stays as it was: %s", error)

    def kills(self) -> int:
        """Return how many workers the kernel has killed for memory so far, as far as it tells."""
        return self._group.kills() if self._group is not None else 0

    def close(self) -> None:
        """Take the group away; the worker has ended."""
        if self._group is not None:
            self._group.remove()
            self._group = None

    def _fall_back(self, error: GroupError) -> None:
        self._group = None
        log.info("the memory limit is kept by a watchdog; no control group: %s", error)


def _make(root: Path, name: str) -> Group:
    """Make a group below our own; those of agents that are gone are removed.

    Raises:
        GroupError: there is no place for one.
    """
    try:
        found = levels(root, "memory")
    except UnreadableError as error:
        raise GroupError(str(error)) from error
    reasons = []
    # The first of each version is our own group. Where both are mounted, one has the controller.
    for version, kind in ((1, V1Group), (2, V2Group)):
        own = next((level for level in found if level.version == version), None)
        if own is None:
            continue
        parent = root / own.folder
        _remove_stale(parent)
        try:
            return kind(parent, name)
        except GroupError as error:
            reasons.append(str(error))
    raise GroupError("; ".join(reasons) or "no hierarchy of the memory controller is mounted")


def _remove_stale(parent: Path) -> None:
    """Remove the groups of agents that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        match = re.search(r"-(\d+)(\.\w+)?$", folder.name)
        if match and not _lives(int(match[1])):
            remove_folder(folder)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # somebody else's
    return True
