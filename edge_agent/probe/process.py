"""What processes use: resident memory now and at its peak."""

from pathlib import Path

import psutil


def resident_bytes(pid: int) -> int | None:
    """Return a process's resident memory, or None when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def peak_bytes(pid: int) -> int | None:
    """Return the greatest resident memory a process ever had (Linux: ``VmHWM``).

    Elsewhere the present resident memory stands in.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_bytes(pid)
