"""How many bytes a device may still move today; the count survives a restart.

A chunk is counted, and the count written, before it goes: a process that is killed has counted at
least what it moved, less a few small messages. The file is renamed into place at each change, and
synced after each hundredth of the cap, so a power cut hides a hundredth at most.
"""

import contextlib
import datetime
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from wire.mqtt_sizes import publish_bytes
from wire.transfer import CHUNK_BYTES, HEADER_BYTES

log = logging.getLogger(__name__)

#: A chunk on its way, with the longest topic that one can have.
CHUNK_COST_BYTES = publish_bytes(200 * "t", CHUNK_BYTES + HEADER_BYTES, 1)
#: Of the cap, what is kept for small messages after the last chunk: a device that moves nothing
#: else must still say that it lives, and hear of what goes on.
RESERVE = 0.01
#: What an agent sends and hears in a day without any task comes to about a megabyte.
LEAST_CAP_BYTES = 2_000_000
#: Small messages that may be missing from the file.
_UNWRITTEN_BYTES = 16 * 1024
_DAYS_KEPT = 8


class DataCap:
    """Bytes of the present day, up and down together. A day ends at 00:00 UTC.

    Each day has a count of its own: a board without a clock of its own believes in another day
    until it has heard the time, and must not get a fresh cap with each start.

    Args:
        file: where the counts are kept. One that can't be read counts as empty.
        cap_bytes: of one day.
        clock: returns Unix time, in seconds.
    """

    def __init__(self, file: Path, cap_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.cap_bytes = cap_bytes
        self._file = file
        self._clock = clock
        self._unwritten = 0
        self._unsynced = 0
        self._days: dict[str, int] = {}
        try:
            self._days = msgspec.json.decode(file.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is passed over: %s", file, error)

    @property
    def used_bytes(self) -> int:
        """Bytes of the present day."""
        return self._days.get(self._today(), 0)

    @property
    def left_bytes(self) -> int:
        """Bytes that may still be taken today."""
        return max(0, int(self.cap_bytes * (1 - RESERVE)) - self.used_bytes)

    @property
    def exhausted(self) -> bool:
        """Whether no further chunk fits into the present day."""
        return not self._fits(CHUNK_COST_BYTES)

    def take(self, size_bytes: int) -> bool:
        """Return whether so many bytes may be moved now; if so, they are counted and written."""
        if not self._fits(size_bytes):
            return False
        self._add(size_bytes)
        self.write()
        return True

    def count(self, size_bytes: int) -> None:
        """Count small messages, which don't ask."""
        if size_bytes > 0:
            self._add(size_bytes)
            if self._unwritten >= _UNWRITTEN_BYTES:
                self.write()

    def write(self) -> None:
        """Bring the count to the file."""
        if self._unwritten == 0:
            return
        part = self._file.with_suffix(".part")
        try:
            with part.open("wb") as writing:
                writing.write(msgspec.json.encode(self._days))
                if self._unsynced >= self.cap_bytes // 100:
                    writing.flush()
                    os.fsync(writing.fileno())
                    self._unsynced = 0
            part.replace(self._file)
        except OSError as error:
            log.warning("%s can't be written: %s", self._file, error.strerror or error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._unwritten = 0

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.cap_bytes * (1 - RESERVE)

    def _add(self, size_bytes: int) -> None:
        today = self._today()
        used = self._days.pop(today, 0) + size_bytes
        self._days[today] = used  # the day that was counted last stands last
        for day in list(self._days)[:-_DAYS_KEPT]:
            del self._days[day]
        self._unwritten += size_bytes
        self._unsynced += size_bytes

    def _today(self) -> str:
        return datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).date().isoformat()
