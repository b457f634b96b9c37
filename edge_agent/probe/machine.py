"""What kind of machine this is."""

import os
import platform


def machine() -> str:
    """Return the processor's family: x86_64, aarch64, ..."""
    return platform.machine()


def cores() -> float:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return float(len(os.sched_getaffinity(0)))
    return float(os.cpu_count() or 1)
