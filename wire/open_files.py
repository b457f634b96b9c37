"""Files that are written to again and again, kept open as long as there are few of them.

A chunk's way to the disk is two small writes; opening both files for each would take longer. But
thousands of devices may send at a time, and a process may have some thousand files open at most.
"""

import errno
import os
from collections import OrderedDict
from pathlib import Path

#: A blob that is being received has two.
MOST_OPEN = 64


class OpenFiles:
    """Descriptors by path; the one that was used least recently is closed for a new one."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()

    def __del__(self) -> None:
        for path in list(self._open):
            self.close(path)

    def write(
        self, path: Path, data: bytes | memoryview, at: int, size_bytes: int, new: bytes = b""
    ) -> None:
        """Write into a file, which has a given size from its first byte on.

        Args:
            path: made if it isn't there.
            data: to be written.
            at: offset in bytes.
            size_bytes: of the file; what is never written stays a hole.
            new: what a file that is made here begins with.

        Raises:
            OSError: the disk is full, or can't be written.
        """
        descriptor = self._descriptor(path, size_bytes, new)
        if os.pwrite(descriptor, data, at) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def close(self, path: Path) -> None:
        """Close a file, if it is open: it is going to be renamed or deleted."""
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    def _descriptor(self, path: Path, size_bytes: int, new: bytes) -> int:
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        while len(self._open) >= MOST_OPEN:
            self.close(next(iter(self._open)))
        found = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._open[path] = found
        if os.fstat(found).st_size != size_bytes:
            os.ftruncate(found, size_bytes)
            if new:
                os.pwrite(found, new, 0)
        return found
