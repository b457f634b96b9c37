"""sha256 of large files, remembered by path, size and time of change."""

import hashlib
import logging
import threading
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1024 * 1024
_MAX_CACHE_BYTES = 16 * 1024 * 1024


class _Known(msgspec.Struct, frozen=True):
    size_bytes: int
    mtime_ns: int
    sha256: str


class HashCache:
    """Hashes a file once, and again only when its size or its time of change differs.

    Args:
        file: where hashes outlive a restart; None keeps them in memory only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()  # two jobs may be submitted at once
        self._known = _load(file) if file is not None else {}

    def sha256(self, path: Path) -> str:
        """Return the file's sha256, hexadecimal."""
        real = path.resolve()
        before = real.stat()
        known = self._known.get(str(real))
        if known and (known.size_bytes, known.mtime_ns) == (before.st_size, before.st_mtime_ns):
            return known.sha256
        digest = hash_file(real)
        with self._lock:
            # Size and time from before the reading: a file that changed meanwhile is read again.
            self._known[str(real)] = _Known(before.st_size, before.st_mtime_ns, digest)
            self._save()
        return digest

    def _save(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_name(self._file.name + ".part")
        partial.write_bytes(msgspec.json.encode(self._known))
        partial.replace(self._file)


def _load(file: Path) -> dict[str, _Known]:
    try:
        if file.stat().st_size <= _MAX_CACHE_BYTES:
            return msgspec.json.decode(file.read_bytes(), type=dict[str, _Known])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s can't be used (%s); models are hashed again", file, error)
    return {}


def hash_file(path: Path) -> str:
    """Return a file's sha256, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
