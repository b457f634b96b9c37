"""A half-received blob that survives a restart.

Its data lie in a sparse file; a state file says which chunks of it are on disk, with their
checksums. The state is written only after the data were synced, and a restart checks every chunk
that it claims; so what a restarted receiver says it has, it has.
"""

import array
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wire.errors import MalformedError
from wire.transfer import CHUNK_BYTES, Bitmap, Ranges, chunk_count, chunk_size

#: New chunks after which the state is made durable without being asked.
FLUSH_EVERY = 64
_MAGIC = b"LKP1"
_HEADER = struct.Struct(">4sQ")  # magic, the blob's size


class Partial:
    """A blob that is being received; comes from `wire.blobs.BlobStore.partial`.

    Args:
        stem: path of the two files without their endings ``.data`` and ``.state``.
        sha256: of the whole blob.
        size_bytes: of the whole blob.
        adopt: makes an open file, verified here, the whole blob; returns its new place.
    """

    def __init__(
        self,
        stem: Path,
        sha256: str,
        size_bytes: int,
        adopt: Callable[[Path, BinaryIO, str], Path],
    ) -> None:
        self.sha256 = sha256
        self.size_bytes = size_bytes
        self._data = stem.with_suffix(".data")
        self._state = stem.with_suffix(".state")
        self._adopt = adopt
        self._place: Path | None = None  # once it is whole
        self._bitmap = Bitmap(chunk_count(size_bytes))
        self._checksums = array.array("I", bytes(4 * self._bitmap.count))
        self._unsaved = 0
        self._resume()

    @property
    def complete(self) -> bool:
        """Whether every chunk came; only `finish` tells whether they are the right ones."""
        return self._bitmap.complete

    @property
    def finished(self) -> bool:
        """Whether it was verified and is a whole blob now."""
        return self._place is not None

    def missing(self, limit: int | None = None) -> Ranges:
        """Return the first ``limit`` chunks that haven't come; None: all of them."""
        return self._bitmap.missing(limit)

    def write(self, index: int, data: bytes) -> bool:
        """Keep a chunk; return whether it is news. A chunk that came before is passed over.

        Raises:
            MalformedError: the blob has no such chunk, or it has another size.
        """
        size = chunk_size(self.size_bytes, index)
        if len(data) != size:
            raise MalformedError(
                f"chunk {index} of blob {self.sha256[:12]} has {len(data)} bytes; it must have "
                f"{size}."
            )
        if index in self._bitmap:
            return False  # so are all that come after the blob was finished
        with self._open_data() as file:
            file.seek(index * CHUNK_BYTES)
            file.write(data)
        self._checksums[index] = zlib.crc32(data)
        self._bitmap.add(index)
        self._unsaved += 1
        if self._unsaved >= FLUSH_EVERY:
            self.flush()
        return True

    def flush(self) -> None:
        """Make durable what came: after this returns, a restart loses none of it."""
        if self._unsaved == 0:
            return
        with self._open_data() as file:
            os.fsync(file.fileno())
        content = _HEADER.pack(_MAGIC, self.size_bytes)
        content += self._bitmap.to_bytes() + self._checksums.tobytes()
        content += zlib.crc32(content).to_bytes(4, "big")
        new = self._state.with_suffix(".new")
        with new.open("wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        new.replace(self._state)
        sync_folder(self._state.parent)
        self._unsaved = 0

    def finish(self) -> Path:
        """Verify the whole and move it into the store; return where it lies.

        Raises:
            MalformedError: chunks are missing; or the sha256 differs, and everything that came
                was discarded.
        """
        if not self.complete:
            raise MalformedError(
                f"blob {self.sha256[:12]} lacks {self._bitmap.count - self._bitmap.held} of "
                f"{self._bitmap.count} chunks."
            )
        if self._place is not None:
            return self._place
        with self._open_data() as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self.sha256:
                self.discard()
                raise MalformedError(
                    f"a blob's sha256 is {found}; {self.sha256} was announced. It was discarded."
                )
            self._place = self._adopt(self._data, file, self.sha256)
        self._unsaved = 0
        self._state.unlink(missing_ok=True)
        return self._place

    def discard(self) -> None:
        """Forget everything that came; the next chunk written begins anew."""
        self._place = None
        self._data.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self._bitmap = Bitmap(self._bitmap.count)
        self._unsaved = 0

    def _open_data(self) -> io.BufferedRandom:
        """Open for this one access: thousands of devices may be sending at a time."""
        descriptor = os.open(self._data, os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "r+b")
        if os.fstat(descriptor).st_size != self.size_bytes:
            file.truncate(self.size_bytes)
        return file

    def _resume(self) -> None:
        """Take over what an earlier process received, as far as it is really there."""
        try:
            claimed = self._read_state(self._state.read_bytes())
            file = self._data.open("rb")
        except (FileNotFoundError, MalformedError):
            self._data.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
            return
        with file:
            for index in range(claimed.count):
                if index in claimed:
                    file.seek(index * CHUNK_BYTES)
                    data = file.read(chunk_size(self.size_bytes, index))
                    if zlib.crc32(data) == self._checksums[index]:
                        self._bitmap.add(index)

    def _read_state(self, content: bytes) -> Bitmap:
        at = _HEADER.size + len(self._bitmap.to_bytes())  # where the checksums begin
        body, checksum = content[:-4], content[-4:]
        if len(body) != at + 4 * self._bitmap.count or zlib.crc32(body) != int.from_bytes(checksum):
            raise MalformedError(f"{self._state} is damaged.")
        magic, size_bytes = _HEADER.unpack_from(body)
        if magic != _MAGIC or size_bytes != self.size_bytes:
            raise MalformedError(f"{self._state} is of another blob size or version.")
        self._checksums = array.array("I", body[at:])
        return Bitmap.from_bytes(body[_HEADER.size : at], self._bitmap.count)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
