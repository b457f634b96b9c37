"""Gives back the pages of libraries' code that nothing uses any more.

torch's libraries are 500 MB of file, of which importing touches some 80 MB and training uses a
third. The kernel keeps the rest in the process until memory is short, and a limit on the process
counts it. Given back, a page is mapped again at once when it is touched: it still is in the page
cache.
"""

import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path


def give_back_code(smaps: Path = Path("/proc/self/smaps")) -> int:
    """Give back the pages of mapped libraries; return how many bytes were resident in them.

    Only mappings that can't be written to, and of which no page ever was (the loader writes
    addresses into some before it locks them), are given back: their pages are the file's own.
    Where the system can't, nothing happens.

    Args:
        smaps: this process's mappings, as `man 5 proc` describes them.
    """
    try:
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        lines = smaps.read_text().splitlines()
        drop = mmap.MADV_DONTNEED
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    given = 0
    for start, stop, resident in _clean(lines):
        if madvise(start, stop - start, drop) == 0:
            given += resident
    return given


def _clean(lines: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and resident bytes of mappings that are as their files are."""
    span: tuple[int, int] | None = None
    resident = 0
    changed = False
    for line in lines:
        name, _, value = line.partition(":")
        if " " in name or "-" in name:  # the first line of a mapping
            if span is not None and resident and not changed:
                yield *span, resident
            span, resident, changed = _mapping(line), 0, False
        elif name == "Rss":
            resident = _kib(value)
        elif name in ("Anonymous", "Private_Dirty", "Shared_Dirty", "Swap", "Locked"):
            changed = changed or _kib(value) > 0
    if span is not None and resident and not changed:
        yield *span, resident


def _mapping(line: str) -> tuple[int, int] | None:
    """Return a mapping's ends if it is private, read-only and from a file."""
    fields = line.split(maxsplit=5)
    if len(fields) < 6 or not fields[5].startswith("/"):
        return None
    if fields[1] not in ("r-xp", "r--p"):
        return None
    start, stop = (int(part, 16) for part in fields[0].split("-"))
    return start, stop


def _kib(value: str) -> int:
    return int(value.split(maxsplit=1)[0]) * 1024
