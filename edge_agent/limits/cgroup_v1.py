"""A memory control group of version 1 (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html)."""

from pathlib import Path

from edge_agent.limits.contract import GroupError, counted, remove_folder, write


class V1Group:
    """A group below our own in the hierarchy of the memory controller.

    Args:
        parent: our own group's folder.
        name: of the new one.

    Raises:
        GroupError: it can't be made.
    """

    kind = "cgroup v1"

    def __init__(self, parent: Path, name: str) -> None:
        self.folder = parent / name
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise GroupError(f"{self.folder}: {(error.strerror or str(error)).lower()}") from error
        if not (self.folder / "memory.limit_in_bytes").exists():
            remove_folder(self.folder)
            raise GroupError(f"{parent} is not a group of the memory controller")

    def add(self, pid: int) -> None:
        """Put a process into it."""
        write(self.folder / "cgroup.procs", str(pid))

    def limit(self, size_bytes: int) -> None:
        """Set the limit; memory and swap together have the same."""
        memory = self.folder / "memory.limit_in_bytes"
        with_swap = self.folder / "memory.memsw.limit_in_bytes"  # absent without swap accounting
        if not with_swap.exists():
            write(memory, str(size_bytes))
            return
        # The kernel refuses whatever would leave the second below the first, even for a moment.
        order = [memory, with_swap]
        try:
            rises = size_bytes > int(memory.read_text())
        except (OSError, ValueError):
            rises = False
        for file in reversed(order) if rises else order:
            write(file, str(size_bytes))

    def kills(self) -> int:
        """Return how many processes were killed for memory here."""
        return counted(self.folder / "memory.oom_control", "oom_kill")

    def remove(self) -> None:
        """Take it away."""
        remove_folder(self.folder)
