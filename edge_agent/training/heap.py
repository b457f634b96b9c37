"""Memory that Python and its libraries have freed, and the C library still keeps."""

import ctypes

#: malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library: there it is freed when it is freed


def keep_freed(threshold_bytes: int, trim_bytes: int) -> None:
    """Say from which size on freed memory goes back to the system at once (glibc's mallopt).

    Below it, freed memory is kept for the next tensor, which saves a page fault for each 4 KiB.

    Args:
        threshold_bytes: allocations of this size and more are mapped on their own.
        trim_bytes: of free memory at the heap's end that is kept.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, threshold_bytes)
    mallopt(_M_TRIM_THRESHOLD, trim_bytes)
