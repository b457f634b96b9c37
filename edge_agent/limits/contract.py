"""What a control group does for the worker, whichever version the kernel has."""

import os
from pathlib import Path
from typing import Protocol

from edge_agent.errors import AgentError


class GroupError(AgentError):
    """No control group can be had, or it does not obey. The message is the reason."""


class Group(Protocol):
    """A memory control group of our own, for one worker after the other.

    Attributes:
        kind: ``cgroup v1`` or ``cgroup v2``.
        folder: where it is.
    """

    kind: str
    folder: Path

    def add(self, pid: int) -> None:
        """Put a process into it; its children will be born there.

        Raises:
            GroupError: it can't be put there.
        """

    def limit(self, size_bytes: int) -> None:
        """Set how much memory the processes in it may use together, swap included.

        Raises:
            GroupError: the kernel does not take it.
        """

    def kills(self) -> int:
        """Return how many of its processes the kernel has killed for memory so far."""

    def remove(self) -> None:
        """Take it away; its processes have ended. One that can't go is left to the next agent."""


def write(path: Path, text: str) -> None:
    """Write to a control file.

    Raises:
        GroupError: it isn't there, or the kernel says no.
    """
    try:
        # Without O_CREAT: a control file that is missing is missing for a reason.
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise GroupError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def counted(path: Path, name: str) -> int:
    """Return a counter from a file with a name and a number a line; 0 where it has none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def remove_folder(folder: Path) -> None:
    """Remove a group's folder if it is empty of processes; the files in it are the kernel's."""
    try:
        folder.rmdir()
    except OSError:
        return  # still in use, or gone already
