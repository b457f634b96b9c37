"""The demo's processes: each started by us is ended by us, by its pid."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path


class Processes:
    """Processes that end, at the latest, with the demo."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.peak_bytes: int | None = None

    def start(
        self, name: str, command: list[str], log: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """Start one; its output goes to a file, and Ctrl-C reaches only the demo itself.

        Args:
            name: what it is called.
            command: its words.
            log: is appended to.
            more: of its environment.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | dict(more or {}),
            )

    def dead(self) -> list[tuple[str, int]]:
        """Return those that ended by themselves, with their exit codes."""
        codes = ((name, one.poll()) for name, one in self._running.items())
        return [(name, code) for name, code in codes if code is not None]

    def stop(self, name: str, patience_s: float = 10.0) -> None:
        """End one: asked first, killed when it doesn't listen."""
        process = self._running.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self, patience_s: float = 10.0) -> None:
        """End all, the last started first; nobody waits for another's patience."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience_s
        for name in reversed(list(self._running)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[name].wait(max(0.1, deadline - time.monotonic()))
            self.stop(name, 0.1)

    def sample_memory(self, *others: int) -> None:
        """Add up the memory of all processes below this one (Linux: proportional set size).

        Args:
            others: pids of processes that we didn't start here but that belong to the demo.
        """
        if not sys.platform.startswith("linux"):
            return
        pids = {os.getpid(), *others, *(one.pid for one in list(self._running.values()))}
        used = sum(_proportional_bytes(pid) for pid in _with_children(pids))
        self.peak_bytes = max(self.peak_bytes or 0, used)


def _with_children(pids: set[int]) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = set(pids)
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return found


def _proportional_bytes(pid: int) -> int:
    """Return a process's memory, shared pages divided among those who share them."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
