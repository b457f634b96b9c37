"""A folder as a zip that is made while it is sent: neither memory nor disk holds it whole."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 256 * 1024
#: Files in a zip have a date; one that never changes keeps equal folders equal, byte by byte.
_DATE = (1980, 1, 1, 0, 0, 0)


class _Sink:
    """A file that can't seek, emptied after each write."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits anywhere else."""

    def close(self) -> None:
        """Nothing is held open."""

    def drain(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def folder_files(folder: Path) -> list[Path]:
    """Return the regular files below a folder, sorted by path; links are passed over."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def zip_stream(folder: Path, files: list[Path]) -> Iterator[bytes]:
    """Yield a zip of files below a folder, uncompressed: adapters don't get smaller."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
            entry.external_attr = 0o644 << 16
            large = path.stat().st_size >= zipfile.ZIP64_LIMIT
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=large) as target:
                while block := source.read(_BLOCK_BYTES):
                    target.write(block)
                    yield sink.drain()
    yield sink.drain()
