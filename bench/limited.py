"""A memory cgroup of the bench's own, with a hard limit: v2 where it has memory, else v1.

https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from bench.report import BenchError

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE_S = 10.0
_RECORD_BYTES = 8192  # CONSOLE_EXT_LOG_MAX
#: Joins the group before it becomes the command, so that all its memory counts there.
_JOIN = 'echo $$ > "$0" && exec "$@"'


class MemoryGroup:
    """A cgroup with a memory limit; a context manager that leaves nothing behind.

    Args:
        limit_bytes: for all processes in it; swapping is off.

    Raises:
        BenchError: this machine doesn't let us make one.
    """

    _made = 0

    def __init__(self, limit_bytes: int) -> None:
        MemoryGroup._made += 1
        self._v2 = _has_memory(_ROOT)
        mount = _ROOT if self._v2 else _ROOT / "memory"
        self.folder = mount / f"lorikeet-bench-{os.getpid()}-{self._made}"
        try:
            if self._v2:
                (mount / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir()
        except OSError as error:
            raise BenchError(f"no cgroup can be made in {mount}: {error.strerror}.") from error
        limit, swap = ("memory.max", "memory.swap.max") if self._v2 else (
            "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
        )  # fmt: skip
        (self.folder / limit).write_text(str(limit_bytes))
        with suppress(OSError):  # a kernel without swap accounting has no such file
            (self.folder / swap).write_text("0" if self._v2 else str(limit_bytes))
        self._before = _kills_everywhere()  # fails now, if at all

    def inside(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return a command that runs another one in the group."""
        return ["sh", "-c", _JOIN, self.folder / "cgroup.procs", *command]

    def kills(self) -> int:
        """Return how many processes the kernel has killed for want of memory since the start.

        It counts in the group whose limit was met, which may be one that the agent made below
        ours and removed again. So its log is read, which names groups by their whole path; where
        we may not, its count for the whole machine is taken, which can only be too high.
        """
        log = _kernel_log()
        if log is None:
            return _kills_everywhere() - self._before
        groups = (line.partition("oom_memcg=")[2].partition(",")[0] for line in log)
        return sum(self.folder.name in group.split("/") for group in groups)

    def peak_bytes(self) -> int:
        """Return the greatest use, page cache included."""
        name = "memory.peak" if self._v2 else "memory.max_usage_in_bytes"
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):
            return 0  # v2 has it since Linux 5.19

    def __enter__(self) -> "MemoryGroup":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        folders = [self.folder, *(path for path in self.folder.rglob("*") if path.is_dir())]
        deadline = time.monotonic() + _PATIENCE_S
        for folder in reversed(folders):
            while folder.exists():
                for pid in (folder / "cgroup.procs").read_text().split():
                    with suppress(psutil.Error):
                        psutil.Process(int(pid)).kill()
                with suppress(OSError):  # busy as long as a killed process is dying
                    folder.rmdir()
                if time.monotonic() > deadline:
                    raise BenchError(f"{folder} can't be removed; remove it with rmdir.")
                time.sleep(0.05)


def forget(paths: Sequence[Path]) -> None:
    """Have the kernel drop files from its page cache.

    Pages count where they were first read: what is cached already would be free in a new group.
    Files that a running program maps stay.
    """
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _has_memory(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.controllers").read_text().split()
    except OSError:
        return False


def _kernel_log() -> list[str] | None:
    """Return the kernel's log (/dev/kmsg, one record a read), None if it is not for us."""
    records = []
    try:
        with Path("/dev/kmsg").open("rb", buffering=0) as log:
            os.set_blocking(log.fileno(), False)
            while record := log.read(_RECORD_BYTES):
                records.append(record.decode(errors="replace"))
    except OSError:
        return None
    return records


def _kills_everywhere() -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    raise BenchError("/proc/vmstat has no oom_kill; Linux 4.13 or newer is needed.")
