"""What processes use: resident memory now and at its peak.

Read from ``/proc`` (proc_pid_statm(5), proc_pid_status(5)): psutil is only imported where there is
none, since it costs an idle agent a megabyte.
"""

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def resident_bytes(pid: int) -> int | None:
    """Return a process's resident memory, or None when it is gone."""
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None if _PROC.is_dir() else _by_psutil(pid)


def peak_bytes(pid: int) -> int | None:
    """Return the greatest resident memory a process ever had (Linux: ``VmHWM``).

    Elsewhere the present resident memory stands in.
    """
    try:
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return resident_bytes(pid)


def forget_peak(pid: int) -> bool:
    """Let a process's peak begin anew at what is resident now (proc_pid_clear_refs(5), value 5).

    Returns:
        Whether this system can.
    """
    try:
        (_PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def with_descendants(pid: int) -> list[int]:
    """Return a process and all that it started, directly or not (proc_pid_task_children(5)).

    Without ``/proc``, or a kernel that tells of children, that is the process itself.
    """
    found = [pid]
    for one in found:  # grows as it goes
        for file in (_PROC / str(one) / "task").glob("*/children"):
            with suppress(OSError):  # gone meanwhile
                found += [int(word) for word in file.read_text().split()]
    return found


def _by_psutil(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
