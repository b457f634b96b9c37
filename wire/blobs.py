"""Blobs on disk, addressed by their sha256; whole ones and half-received ones.

Whole: ``ab/abcdef...``, put there by one atomic rename after everything is on disk. Half-received:
``partial/abcdef....data`` and ``.state``, see `wire.partial`.

Half-received blobs belong to one thread. Whole ones may be read and put by any thread or process.
"""

import contextlib
import hashlib
import os
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from wire.errors import MalformedError, TooLargeError
from wire.open_files import OpenFiles
from wire.partial import Partial, sync_folder
from wire.transfer import check_sha256, chunk_count

__all__ = ["BlobStore", "Partial"]

_COPY_BYTES = 1024 * 1024
#: Temporary files this old were left behind by a crash.
_STALE_S = 3600.0


class BlobStore:
    """A folder of blobs.

    Args:
        folder: made if it isn't there.
        quota_bytes: whole and half-received blobs together take no more; None: no limit.
    """

    def __init__(self, folder: Path, quota_bytes: int | None = None) -> None:
        self.folder = folder
        self._quota_bytes = quota_bytes
        # Two senders of one blob share its state; it goes when neither holds it any more.
        self._open: weakref.WeakValueDictionary[str, Partial] = weakref.WeakValueDictionary()
        self._files = OpenFiles()
        for name in ("partial", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for left in (folder / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _STALE_S:
                    left.unlink()

    def path(self, sha256: str) -> Path | None:
        """Return where a whole blob lies, or None if it isn't here.

        Raises:
            MalformedError: not a sha256.
        """
        place = self._place(sha256)
        return place if place.is_file() else None

    def size(self, sha256: str) -> int | None:
        """Return a whole blob's size in bytes, or None if it isn't here."""
        try:
            return self._place(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def all(self) -> list[str]:
        """Return the digests of all whole blobs, sorted."""
        return sorted(path.name for path in self._whole())

    def partials(self, older_s: float = 0.0) -> list[str]:
        """Return the digests of all half-received blobs on disk, sorted; `delete` drops one.

        Args:
            older_s: only those to which nothing came for so many seconds.
        """
        found = []
        for path in (self.folder / "partial").glob("*.data"):
            with contextlib.suppress(FileNotFoundError):
                if not older_s or time.time() - path.stat().st_mtime > older_s:
                    found.append(path.stem)
        return sorted(found)

    def put(self, data: bytes) -> str:
        """Store bytes; return their sha256 once they are on disk.

        Raises:
            TooLargeError: the quota is used up.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if not self._renewed(sha256):
            self._reserve(len(data))
            with self._temporary() as (place, file):
                file.write(data)
                self._adopt(place, file, sha256)
        return sha256

    def _renewed(self, sha256: str) -> bool:
        """Return whether a blob is here; it then counts as young again."""
        path = self.path(sha256)
        if path is not None:
            path.touch()
        return path is not None

    @contextlib.contextmanager
    def draft(self, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
        """Give a file that is no blob yet, for `put_file` or to be dropped when the context ends.

        Args:
            write: is given the file, and may write to it from its beginning on.
        """
        with self.drafts(1, lambda files: write(files[0])) as places:
            yield places[0]

    @contextlib.contextmanager
    def drafts(self, count: int, write: Callable[[list[BinaryIO]], None]) -> Iterator[list[Path]]:
        """Give several such files, which are written at the same time."""
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(self._temporary()) for _ in range(count)]
            write([file for _, file in opened])
            for _, file in opened:
                file.flush()
            yield [place for place, _ in opened]

    def put_file(self, source: Path) -> str:
        """Store a copy of a file; return its sha256 once the copy is on disk.

        Raises:
            TooLargeError: the quota is used up.
            OSError: the file can't be read.
        """
        digest = hashlib.sha256()
        with source.open("rb") as reading, self._temporary() as (place, file):
            self._reserve(os.fstat(reading.fileno()).st_size)
            while block := reading.read(_COPY_BYTES):
                digest.update(block)
                file.write(block)
            sha256 = digest.hexdigest()
            if not self._renewed(sha256):
                self._adopt(place, file, sha256)
        return sha256

    def delete(self, sha256: str) -> None:
        """Forget a blob, whole or half-received; one that isn't here is no error."""
        self._place(sha256).unlink(missing_ok=True)
        partial = self._open.get(sha256)
        if partial is not None:
            partial.discard()
        for left in (self.folder / "partial").glob(f"{sha256}.*"):
            left.unlink(missing_ok=True)

    def partial(self, sha256: str, size_bytes: int) -> Partial:
        """Return the blob that is being received: the one begun before, if there is one.

        Args:
            sha256: of the whole blob.
            size_bytes: of the whole blob, as its sender says.

        Raises:
            MalformedError: not a sha256, an impossible size, or another size than the one under
                which it is being received.
            TooLargeError: larger than any blob may be, or the quota is used up.
        """
        check_sha256(sha256)
        chunk_count(size_bytes)
        found = self._open.get(sha256)
        if found is None:
            stem = self.folder / "partial" / sha256
            data = stem.with_suffix(".data")
            self._reserve(size_bytes - (data.stat().st_size if data.exists() else 0))
            found = Partial(stem, sha256, size_bytes, self._adopt, self._files)
            self._open[sha256] = found
        elif found.size_bytes != size_bytes:
            raise MalformedError(
                f"blob {sha256[:12]} has {size_bytes} bytes; it is being received with "
                f"{found.size_bytes}. Discard that first."
            )
        return found

    def _place(self, sha256: str) -> Path:
        return self.folder / check_sha256(sha256)[:2] / sha256

    def _whole(self) -> Iterator[Path]:
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            if len(path.name) == 64:
                yield path

    def _reserve(self, size_bytes: int) -> None:
        if self._quota_bytes is None:
            return
        unwritten = {
            sha256: partial.size_bytes
            for sha256, partial in self._open.items()
            if not partial.finished
        }
        used = 0
        for path in [*self._whole(), *(self.folder / "partial").glob("*.data")]:
            unwritten.pop(path.stem, None)
            with contextlib.suppress(FileNotFoundError):
                used += path.stat().st_size
        used += sum(unwritten.values())
        if used + size_bytes > self._quota_bytes:
            raise TooLargeError(
                f"a blob needs {size_bytes} bytes; {used} of the store's {self._quota_bytes} are "
                "taken. Delete blobs or raise the quota."
            )

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        place = self.folder / "tmp" / uuid.uuid4().hex
        try:
            with place.open("xb") as file:
                yield place, file
        finally:
            place.unlink(missing_ok=True)

    def _adopt(self, place: Path, file: BinaryIO, sha256: str) -> Path:
        """Sync an open file and make it the whole blob of that digest."""
        file.flush()
        os.fsync(file.fileno())
        target = self._place(sha256)
        target.parent.mkdir(exist_ok=True)
        place.replace(target)
        sync_folder(target.parent)
        sync_folder(self.folder)
        return target
