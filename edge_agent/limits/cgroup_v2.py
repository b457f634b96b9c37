"""A memory control group of version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html).

Only groups without processes of their own may hand the memory controller on ("no internal
processes"; the root of a hierarchy is exempt). An agent that has its group for itself, as under
systemd with ``Delegate=yes`` or in a container, moves into a leaf to make it so.
"""

import os
from pathlib import Path

from edge_agent.limits.contract import GroupError, counted, remove_folder, write

_LEAF = ".supervisor"


class V2Group:
    """A group below our own in the unified hierarchy.

    Args:
        parent: our own group's folder.
        name: of the new one.

    Raises:
        GroupError: it can't be made.
    """

    kind = "cgroup v2"

    def __init__(self, parent: Path, name: str) -> None:
        self.folder = parent / name
        self._parent = parent
        self._leaf: Path | None = None
        if "memory" not in _words(parent / "cgroup.controllers"):
            raise GroupError(f"the memory controller is not handed on to {parent}")
        if "memory" not in _words(parent / "cgroup.subtree_control"):
            self._hand_on(parent / f"{name}{_LEAF}")
        try:
            _make(self.folder)
            if not (self.folder / "memory.max").exists():
                raise GroupError(f"{self.folder} has no memory controller")
        except GroupError:
            self.remove()
            raise

    def add(self, pid: int) -> None:
        """Put a process into it."""
        write(self.folder / "cgroup.procs", str(pid))

    def limit(self, size_bytes: int) -> None:
        """Set the limit; nothing may be swapped out to get around it."""
        swap = self.folder / "memory.swap.max"  # absent without swap accounting
        if swap.exists():
            write(swap, "0")
        write(self.folder / "memory.max", str(size_bytes))

    def kills(self) -> int:
        """Return how many processes were killed for memory here."""
        return counted(self.folder / "memory.events", "oom_kill")

    def remove(self) -> None:
        """Take it away, and go back to where we were."""
        remove_folder(self.folder)
        if self._leaf is not None:
            try:
                write(self._parent / "cgroup.subtree_control", "-memory")
                write(self._parent / "cgroup.procs", str(os.getpid()))
            except GroupError:
                return  # somebody else has a group here by now; the leaf stays as well
            remove_folder(self._leaf)
            self._leaf = None

    def _hand_on(self, leaf: Path) -> None:
        """Let the groups below have the memory controller."""
        control = self._parent / "cgroup.subtree_control"
        try:
            write(control, "+memory")
            return
        except GroupError as error:
            others = set(_words(self._parent / "cgroup.procs")) - {str(os.getpid())}
            if others:
                raise GroupError(
                    f"{self._parent} holds {len(others)} other processes. Give the agent a group "
                    "of its own; systemd does with Delegate=yes"
                ) from error
        _make(leaf)
        self._leaf = leaf
        write(leaf / "cgroup.procs", str(os.getpid()))
        try:
            write(control, "+memory")
        except GroupError:
            self.remove()
            raise


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise GroupError(f"{folder}: {(error.strerror or str(error)).lower()}") from error


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
