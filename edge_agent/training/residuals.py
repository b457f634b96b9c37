"""What a device's last update in a job left out, on disk, until the next update takes it along.

Two files in a folder of the job, each with the task that it came of:

    kept.safetensors      of the last update that the hub accepted
    pending.safetensors   of the last update that was packed; nobody knows what became of it

Whether a pending one counts is the hub's to say: an offer names the device's last accepted task
(`wire.messages.Offer`). If that is the pending one's, it is kept from then on, by one rename;
otherwise the update came to nothing, and so does what it left out. So it doesn't matter when the
agent, the hub or the power went, whether a round was dropped, or how often a task was begun: it
begins with what belongs to the last accepted update, or with nothing.

Files are safetensors, checked by a CRC-32 of everything in them. A damaged one is deleted.
"""

import json
import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError
from wire.partial import sync_folder
from wire.safetensors_header import StoredTensor, read_header
from wire.safetensors_writer import write_safetensors

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

#: Folders of other jobs are deleted beyond so many, the oldest first.
MOST_JOBS = 8
_KEPT, _PENDING = "kept.safetensors", "pending.safetensors"
_FACTS, _CHECK = "facts", "check"
_PIECE_BYTES = 1024 * 1024


class Facts(msgspec.Struct, frozen=True):
    """Where a residual comes from."""

    task: str
    round: int  # of the adapter that the task started from


class Residual:
    """A file that was checked; its tensors are read one at a time."""

    def __init__(self, path: Path, facts: Facts, header: Mapping[str, StoredTensor]) -> None:
        self.facts = facts
        self._path = path
        self._header = header

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor by name."""
        return {
            name: tensor.shape
            for name, tensor in self._header.items()
            if name not in (_FACTS, _CHECK)
        }

    def get(self, name: str) -> Array:
        """Return a tensor.

        Raises:
            OSError: it can't be read.
            ValueError: the file has shrunk since it was checked.
        """
        stored = self._header[name]
        count = math.prod(stored.shape)
        values = np.fromfile(self._path, dtype="<f4", count=count, offset=stored.start)
        return values.astype(np.float32, copy=False).reshape(stored.shape)


class Residuals:
    """One job's residual.

    Args:
        folder: of the job, in one for all jobs; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, accepted: str) -> Residual | None:
        """Return what the last accepted update left out; what else is there is deleted.

        Args:
            accepted: the task of that update; empty if the hub has accepted none.

        Raises:
            OSError: a file can't be read or deleted.
        """
        kept, pending = self._folder / _KEPT, self._folder / _PENDING
        found = _open(pending)
        if found is not None and found.facts.task == accepted:
            pending.replace(kept)
            sync_folder(self._folder)
        else:
            pending.unlink(missing_ok=True)
        found = _open(kept)
        if found is not None and found.facts.task != accepted:
            # Whatever it was of has been sent since, or the job is another one of that name.
            log.info("a residual of %s is dropped: it isn't of the last update", found.facts.task)
            kept.unlink()
            return None
        return found

    def put(
        self, facts: Facts, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[Array]
    ) -> None:
        """Write what a task's update left out, in place of an earlier pending one.

        Args:
            facts: of the task.
            shapes: of each tensor by name.
            tensors: finite, in the order of ``shapes``; one at a time is in memory.

        Raises:
            OSError: it can't be written; then nothing is pending.
            ValueError: an entry is NaN or infinite; as above.
        """
        path = self._folder / _PENDING
        self._folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        data = msgspec.json.encode(facts)
        entries: dict[str, tuple[str, tuple[int, ...]]] = {_FACTS: ("U8", (len(data),))}
        entries |= {name: ("F32", shape) for name, shape in shapes.items()}
        entries[_CHECK] = ("U8", (4,))
        write_safetensors(path, entries, _checked(data, tensors))
        sync_folder(self._folder)
        self._prune()

    def forget(self) -> None:
        """Delete everything, as far as the disk lets us."""
        _delete(self._folder)

    def _prune(self) -> None:
        """Delete other jobs' residuals that are one too many: their end was never heard of."""
        others = []
        for one in self._folder.parent.iterdir():
            times = [path.stat().st_mtime_ns for path in _files(one)]
            if times and one != self._folder:
                others.append((max(times), one))
        for _, one in sorted(others)[: max(0, len(others) + 1 - MOST_JOBS)]:
            _delete(one)


def _files(folder: Path) -> list[Path]:
    """Return a job's files, those included that a kill left half-written."""
    return [path for name in (_KEPT, _PENDING) for path in folder.glob(f"{name}*")]


def _delete(folder: Path) -> None:
    with suppress(OSError):
        for path in _files(folder):
            path.unlink()
        folder.rmdir()


def _checked(facts: bytes, tensors: Iterable[Array]) -> Iterator[bytes | memoryview]:
    """Yield what goes into a file, and the CRC of it all."""
    crc = zlib.crc32(facts)
    yield facts
    for tensor in tensors:
        if not np.isfinite(tensor).all():
            raise ValueError("a residual has entries that are NaN or infinite.")
        view = np.ascontiguousarray(tensor, dtype="<f4").reshape(-1).view(np.uint8).data
        crc = zlib.crc32(view, crc)
        yield view
    yield crc.to_bytes(4, "little")


def _open(path: Path) -> Residual | None:
    """Return a file's contents; one that is damaged is deleted."""
    if not path.is_file():
        return None
    try:
        header = read_header(path)
        facts = _facts(path, header)
    except (MalformedError, msgspec.MsgspecError, json.JSONDecodeError) as error:
        log.warning("a residual is dropped: %s: %s", path.name, error)
        path.unlink()
        return None
    return Residual(path, facts, header)


def _facts(path: Path, header: Mapping[str, StoredTensor]) -> Facts:
    """Return where a file comes from, once all of it has proved to be whole."""
    facts, check = header.get(_FACTS), header.get(_CHECK)
    if facts is None or check is None or facts.start != min(h.start for h in header.values()):
        raise MalformedError("it doesn't say what it is.")
    if any(h.dtype != "F32" for name, h in header.items() if name not in (_FACTS, _CHECK)):
        raise MalformedError("it has other numbers than float32.")
    with path.open("rb") as file:
        file.seek(facts.start)
        told = file.read(facts.size_bytes)
        crc, left = zlib.crc32(told), check.start - facts.start - facts.size_bytes
        while left > 0:
            piece = file.read(min(left, _PIECE_BYTES))
            if not piece:
                break
            crc = zlib.crc32(piece, crc)
            left -= len(piece)
        if left or file.read() != crc.to_bytes(4, "little"):
            raise MalformedError("its check sum does not fit.")
    return msgspec.json.decode(told, type=Facts)
