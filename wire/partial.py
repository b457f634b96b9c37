"""A half-received blob that survives a restart.

Its data lie in a sparse file; a state file has an entry for each chunk that was written there,
with its checksum. A restart reads every chunk that the entries claim and believes the checksums
only; so what a restarted receiver says it has, it has, whatever of the two files reached the disk
before the power went. Killing the process loses no chunk, since both files are written at once.
"""

import contextlib
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wire.chunk_hashes import HASH_BYTES, check_list, chunk_hash
from wire.errors import MalformedError
from wire.open_files import OpenFiles
from wire.transfer import CHUNK_BYTES, Bitmap, Ranges, chunk_count, chunk_size

#: New chunks after which what came is made durable without being asked. When the power goes, those
#: after the last but one such moment may be lost.
FLUSH_EVERY = 64
_MAGIC = b"LKP2"
_HEADER = struct.Struct(">4sQ")  # magic, the blob's size
_ENTRY = struct.Struct(">BI")  # 1 once the chunk was written, its CRC32
_READ_BYTES = 1024 * 1024


class Partial:
    """A blob that is being received; comes from `wire.blobs.BlobStore.partial`.

    Args:
        stem: path of the two files without their endings ``.data`` and ``.state``.
        sha256: of the whole blob.
        size_bytes: of the whole blob.
        adopt: makes an open file, verified here, the whole blob; returns its new place.
        files: keeps both files open.
    """

    def __init__(
        self,
        stem: Path,
        sha256: str,
        size_bytes: int,
        adopt: Callable[[Path, BinaryIO, str], Path],
        files: OpenFiles,
    ) -> None:
        self.sha256 = sha256
        self.size_bytes = size_bytes
        self._data = stem.with_suffix(".data")
        self._state = stem.with_suffix(".state")
        self._adopt = adopt
        self._files = files
        self._place: Path | None = None  # once it is whole
        self._hashes = b""
        self._unsaved = 0
        self._suspect = self._strict = False
        self._syncing: threading.Thread | None = None
        self._begin_anew()
        self._resume()

    @property
    def complete(self) -> bool:
        """Whether every chunk came; only `finish` tells whether they are the right ones."""
        return self._bitmap.complete

    @property
    def finished(self) -> bool:
        """Whether it was verified and is a whole blob now."""
        return self._place is not None

    @property
    def held(self) -> int:
        """How many chunks came."""
        return self._bitmap.held

    def missing(self, limit: int | None = None) -> Ranges:
        """Return the first ``limit`` chunks that haven't come; None: all of them."""
        return self._bitmap.missing(limit)

    def expect(self, hashes: bytes) -> None:
        """Learn the digests of all chunks, so that a wrong one can be told from the others.

        Hashing everything twice would cost as much as the transfer. So the list is used from the
        moment on when the whole turns out to be wrong (see `finish`): wrong chunks are dropped
        then, and no more of them are taken.

        Args:
            hashes: see `wire.chunk_hashes`; an empty list changes nothing.

        Raises:
            MalformedError: it has another length than this blob needs, it is not the one that was
                given before, or it lies: all chunks are as it says, and yet the whole is wrong.
        """
        check_list(hashes, self.size_bytes)
        if not hashes or hashes == self._hashes:
            return
        if self._hashes:
            raise MalformedError(
                f"blob {self.sha256[:12]} is being received with another list of chunk digests."
            )
        self._hashes = hashes
        if self._suspect:
            self._drop_wrong_chunks()

    def write(self, index: int, data: bytes | memoryview, checksum: int | None = None) -> bool:
        """Keep a chunk; return whether it is news. A chunk that came before is passed over.

        Args:
            index: from 0.
            data: of the chunk.
            checksum: its CRC32, where that is known.

        Raises:
            MalformedError: the blob has no such chunk, it has another size, or it is not the one
                that the list of digests, or the name of a blob of one chunk, promises.
        """
        size = chunk_size(self.size_bytes, index)
        if len(data) != size:
            raise MalformedError(
                f"chunk {index} of blob {self.sha256[:12]} has {len(data)} bytes; it must have "
                f"{size}."
            )
        if index in self._bitmap:
            return False  # so are all that come after the blob was finished
        if self._strict and not self._fits(index, data):
            raise MalformedError(
                f"chunk {index} of blob {self.sha256[:12]} is not the one that was promised; "
                "it will be asked for again."
            )
        self._files.write(self._data, data, index * CHUNK_BYTES, self.size_bytes)
        self._note(index, zlib.crc32(data) if checksum is None else checksum)
        self._bitmap.add(index)
        if index == self._digested:
            self._digest.update(data)
            self._digested += 1
        self._unsaved += 1
        if self._unsaved % FLUSH_EVERY == 0:
            self._flush_behind()
        return True

    def flush(self) -> None:
        """Make durable what came: after this returns, even a power cut loses none of it."""
        if self._unsaved == 0 or self._place is not None:
            return
        _sync(self._data, self._state)
        self._unsaved = 0

    def finish(self) -> Path:
        """Verify the whole and move it into the store; return where it lies.

        Raises:
            WrongChunksError: the sha256 differs. The chunks that are to blame were dropped; or, if
                their list is not known, will be as soon as it is.
            MalformedError: chunks are missing; or the list lies, and everything was discarded.
        """
        if not self.complete:
            raise MalformedError(
                f"blob {self.sha256[:12]} lacks {self._bitmap.count - self._bitmap.held} of "
                f"{self._bitmap.count} chunks."
            )
        if self._place is not None:
            return self._place
        if self._suspect:
            raise WrongChunksError(_wrong(self.sha256))
        self._close()
        with self._data.open("r+b" if self._bitmap.count else "w+b") as file:
            file.seek(self._digested * CHUNK_BYTES)  # what came in order was digested as it came
            while block := file.read(_READ_BYTES):
                self._digest.update(block)
            if self._digest.hexdigest() != self.sha256:
                self._suspect = True
            else:
                self._place = self._adopt(self._data, file, self.sha256)
        if self._place is None:
            if self._hashes:
                self._drop_wrong_chunks()
            raise WrongChunksError(_wrong(self.sha256))
        self._unsaved = 0
        self._state.unlink(missing_ok=True)
        return self._place

    def discard(self) -> None:
        """Forget everything that came; the next chunk written begins anew."""
        self._place = None
        self._hashes = b""
        self._close()
        self._data.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self._begin_anew()

    def _drop_wrong_chunks(self) -> None:
        """Keep the chunks that are as the list says; from now on, no others are taken."""
        self._suspect, self._strict = False, True
        self._take_stock(self._fits)
        if self.complete:
            self.discard()
            raise MalformedError(
                f"blob {self.sha256[:12]} has another sha256, though its chunks are as their list "
                "says. It was discarded."
            )

    def _begin_anew(self) -> None:
        self._bitmap = Bitmap(chunk_count(self.size_bytes))
        self._unsaved = 0
        self._suspect = False  # all chunks came, and don't make the whole
        self._strict = self._bitmap.count == 1  # its name is the list
        self._digest = hashlib.sha256()
        self._digested = 0  # chunks, from the first on

    def _fits(self, index: int, data: bytes | memoryview) -> bool:
        if self._bitmap.count == 1:
            return hashlib.sha256(data).hexdigest() == self.sha256
        at = HASH_BYTES * index
        return not self._hashes or chunk_hash(data) == self._hashes[at : at + HASH_BYTES]

    def _flush_behind(self) -> None:
        """Let another thread bring what came to the disk, so that its end has less to wait for."""
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = threading.Thread(
                target=_sync, args=(self._data, self._state), name="flush", daemon=True
            )
            self._syncing.start()

    def _note(self, index: int, checksum: int) -> None:
        """Write a chunk's entry."""
        self._files.write(
            self._state,
            _ENTRY.pack(1, checksum),
            _HEADER.size + _ENTRY.size * index,
            _HEADER.size + _ENTRY.size * self._bitmap.count,
            _HEADER.pack(_MAGIC, self.size_bytes),
        )

    def _close(self) -> None:
        self._files.close(self._data)
        self._files.close(self._state)

    def _resume(self) -> None:
        """Take over what an earlier process received, as far as it is really there."""
        try:
            content = self._state.read_bytes()
            self._check_state(content)
            for index in range(self._bitmap.count):
                if content[_HEADER.size + _ENTRY.size * index]:
                    self._bitmap.add(index)
            self._take_stock(lambda index, data: zlib.crc32(data) == _checksum(content, index))
        except (FileNotFoundError, MalformedError):
            self._data.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
            self._begin_anew()
        self._unsaved = self._bitmap.held  # of what is on disk, we only know that it can be read

    def _check_state(self, content: bytes) -> None:
        if len(content) != _HEADER.size + _ENTRY.size * self._bitmap.count:
            raise MalformedError(f"{self._state} is damaged.")
        magic, size_bytes = _HEADER.unpack_from(content)
        if magic != _MAGIC or size_bytes != self.size_bytes:
            raise MalformedError(f"{self._state} is of another blob size or version.")

    def _take_stock(self, good: Callable[[int, bytes], bool]) -> None:
        """Read every chunk that is claimed; keep the claims of the good ones."""
        claimed = self._bitmap
        self._bitmap = Bitmap(claimed.count)
        self._digest, self._digested = hashlib.sha256(), 0
        with self._data.open("rb") as file:
            for index in range(claimed.count):
                if index not in claimed:
                    continue
                file.seek(index * CHUNK_BYTES)
                data = file.read(chunk_size(self.size_bytes, index))
                if good(index, data):
                    self._bitmap.add(index)
                    if index == self._digested:
                        self._digest.update(data)
                        self._digested += 1


def _checksum(state: bytes, index: int) -> int:
    checksum: int = _ENTRY.unpack_from(state, _HEADER.size + _ENTRY.size * index)[1]
    return checksum


class WrongChunksError(MalformedError):
    """Some chunks were not what they should be."""


def _wrong(sha256: str) -> str:
    return f"blob {sha256[:12]}: all chunks came, and some are not what they should be."


def _sync(*paths: Path) -> None:
    """Make files and their names durable; one that has moved on is of no interest."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(paths[0].parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
