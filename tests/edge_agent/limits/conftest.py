"""A tree of cgroup v2, with what the kernel does when it is written to.

Source of the rules: https://docs.kernel.org/admin-guide/cgroup-v2.html, sections "Enabling and
Disabling", "No Internal Process Constraint" and "Memory Interface Files". The machines that build
this have the memory controller in version 1.
"""

import os
import shutil
from pathlib import Path

import pytest

from edge_agent.limits import cgroup_v2
from edge_agent.limits.contract import GroupError

_MEMORY = {
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
}


class V2Tree:
    """A root folder in which a process of ours is in a group of its own.

    Attributes:
        root: where ``proc`` and ``sys`` are.
        own: the folder of our group.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._top = root / "sys/fs/cgroup"
        self.own = self._top / "system.slice" / "lorikeet.service"
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("0::/system.slice/lorikeet.service\n")
        (root / "proc/self/mountinfo").write_text(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.own.mkdir(parents=True)
        for folder in (self._top, self.own.parent, self.own):
            self.fill(folder, "cpu memory pids")
        self.move(os.getpid(), self.own)

    def fill(self, folder: Path, controllers: str) -> None:
        """Make the files that a new group has."""
        (folder / "cgroup.controllers").write_text(controllers + "\n")
        (folder / "cgroup.subtree_control").write_text("\n")
        (folder / "cgroup.procs").write_text("")
        if "memory" in controllers:
            for name, text in _MEMORY.items():
                (folder / name).write_text(text)

    def processes(self, folder: Path) -> list[str]:
        file = folder / "cgroup.procs"
        return file.read_text().split() if file.exists() else []

    def move(self, pid: int, folder: Path) -> None:
        for one in self._top.rglob("cgroup.procs"):
            left = [word for word in one.read_text().split() if word != str(pid)]
            one.write_text("".join(f"{word}\n" for word in left))
        words = [*self.processes(folder), str(pid)]
        (folder / "cgroup.procs").write_text("".join(f"{word}\n" for word in words))

    # What the kernel does

    def make(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.fill(folder, (folder.parent / "cgroup.subtree_control").read_text().strip())

    def remove(self, folder: Path) -> None:
        if folder.exists() and not self.processes(folder):
            shutil.rmtree(folder)

    def write(self, path: Path, text: str) -> None:
        if not path.exists():
            raise GroupError(f"{path}: no such file or directory")
        if path.name == "cgroup.procs":
            if (path.parent / "cgroup.subtree_control").read_text().strip():
                raise GroupError(f"{path}: device or resource busy")
            self.move(int(text), path.parent)
        elif path.name == "cgroup.subtree_control":
            self._hand_on(path, text)
        else:
            path.write_text(text + "\n")

    def _hand_on(self, path: Path, text: str) -> None:
        folders = [folder for folder in path.parent.iterdir() if folder.is_dir()]
        if text == "-memory":
            path.write_text("\n")
            for folder in folders:
                for name in _MEMORY:
                    (folder / name).unlink(missing_ok=True)
            return
        if self.processes(path.parent) and path.parent != self._top:
            raise GroupError(f"{path}: device or resource busy")
        path.write_text("memory\n")
        for folder in folders:
            (folder / "cgroup.controllers").write_text("memory\n")
            for name, content in _MEMORY.items():
                (folder / name).write_text(content)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return a tree in which the agent has its group for itself."""
    made = V2Tree(tmp_path)
    monkeypatch.setattr(cgroup_v2, "write", made.write)
    monkeypatch.setattr(cgroup_v2, "_make", made.make)
    monkeypatch.setattr(cgroup_v2, "remove_folder", made.remove)
    return made
