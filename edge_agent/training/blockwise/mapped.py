"""A file read through a mapping, whose pages are given back as soon as they were used.

The kernel keeps the file in its page cache as long as memory allows, so a second pass over it costs
a copy-free fault and no reading; what counts against the process is only what it touched since the
last `release`. Giving pages back after each 16 MiB costs about a tenth of the speed at which a
cached file can be read through (19 GB/s against 22, two cores of a Xeon).
"""

import mmap
import os
import warnings
import weakref
from pathlib import Path

import torch

from edge_agent.errors import ModelError

#: For one hint Linux reads no more than the larger of a disk's read-ahead and its largest request
#: (force_page_cache_ra in mm/readahead.c), 512 KiB on SD cards and more on most disks; so a long
#: range takes several hints. One hint for 256 MiB brought in 8 MiB here, hints of this size all of
#: it; where the file is cached already they take 3 µs a MiB.
_HINT_BYTES = 512 * 1024
#: Linux's `fault_around_bytes`, unless somebody set it otherwise.
_AROUND_BYTES = 64 * 1024


class MappedFile:
    """A read-only mapping of a whole file.

    Attributes:
        path: of the file.
        size_bytes: of the file when it was mapped.
    """

    def __init__(self, path: Path) -> None:
        """Map a file.

        Raises:
            ModelError: it is empty or can't be read.
        """
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
            self._close = weakref.finalize(self, os.close, self._file)
            self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ModelError(f"{path} can't be mapped: {reason}.") from error
        self.size_bytes = len(self._map)
        with warnings.catch_warnings():
            # torch has no read-only tensors and warns of any read-only buffer. Nothing here writes
            # through it; whatever did would end in a fault, and never in a changed file.
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self._hint = getattr(mmap, "MADV_WILLNEED", None)
        self._drop = getattr(mmap, "MADV_DONTNEED", None)

    def view(self, start: int, stop: int) -> torch.Tensor:
        """Return bytes of the file without copying them, (stop - start,) uint8, read-only."""
        return self._bytes[start:stop]

    def release(self, start: int, stop: int) -> None:
        """Give back the pages of bytes that were used; they are read again when touched again.

        Their neighbours go as well: a fault maps up to 64 KiB around it, as far as the page cache
        holds them (do_fault_around in mm/memory.c), and over the matrices of 20 blocks what is left
        at the ends would add up to 10 MB.
        """
        first = max(0, start - _AROUND_BYTES)
        last = min(stop + _AROUND_BYTES, self.size_bytes)
        first -= first % mmap.PAGESIZE
        if start < stop:
            self._advise(self._drop, first, last)

    def gather(self, starts: list[int], size_bytes: int) -> torch.Tensor:
        """Return copies of some ranges of one size, (len(starts), size_bytes) uint8.

        They are read, not mapped: one fault brings in 64 KiB around a row, and up to 2 MiB where
        the page cache holds large folios (filemap_map_pages in mm/filemap.c), which made 15 to
        40 MB for the rows of 255 tokens [measured].

        Raises:
            ModelError: the file was cut short.
        """
        found = torch.empty(len(starts), size_bytes, dtype=torch.uint8)
        into = found.numpy()
        for row, start in enumerate(starts):
            data = os.pread(self._file, size_bytes, start)
            if len(data) != size_bytes:
                raise ModelError(f"{self.path} was cut short; fetch it again.")
            into[row] = memoryview(data)
        return found

    def ahead(self, start: int, stop: int) -> None:
        """Let the kernel begin to read bytes into its page cache; returns at once."""
        for at in range(start - start % mmap.PAGESIZE, stop, _HINT_BYTES):
            self._advise(self._hint, at, min(at + _HINT_BYTES, stop))

    def close(self) -> None:
        """Unmap the file, or leave that to the last view that is still held.

        Unmapping it under a view's feet would be a fault: torch keeps the mapping alive, but
        doesn't tell it that its bytes are in use.
        """
        del self._bytes, self._map
        self._close()

    def _advise(self, advice: int | None, start: int, stop: int) -> None:
        if advice is None:  # this system has no madvise
            return
        try:
            self._map.madvise(advice, start, stop - start)
        except OSError:
            return  # advice that isn't taken costs memory or time, never a result
