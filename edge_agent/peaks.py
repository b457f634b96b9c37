"""What the last tasks were predicted to take, and took: kept on disk, told in telemetry."""

import logging
from pathlib import Path

import msgspec

from wire.messages import RungPlan, TaskPeak

log = logging.getLogger(__name__)

#: Kept on disk; and told at most, of those that are new.
KEPT = 64
TOLD = 3


class Peaks:
    """The peaks of a device's tasks, the newest last.

    Args:
        file: where they are kept. One that can't be read counts as empty.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._new = 0  # that were not told yet
        self.all: list[TaskPeak] = []
        try:
            self.all = msgspec.json.decode(file.read_bytes(), type=list[TaskPeak])[-KEPT:]
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is passed over: %s", file, error)
        self._new = len(self.all)  # the hub may not have heard of them

    def tell(self) -> list[TaskPeak]:
        """Return those that were not told yet, the newest few of them."""
        told, self._new = self.all[len(self.all) - min(self._new, TOLD) :], 0
        return told

    def add(self, peak: TaskPeak) -> None:
        """Keep one."""
        self._new += 1
        self.all = [*self.all, peak][-KEPT:]
        part = self._file.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(self.all))
            part.replace(self._file)
        except OSError as error:
            log.warning("%s can't be written: %s", self._file, error.strerror or error)


def peak_of(task: str, line: RungPlan, measured_bytes: int, limit_bytes: int) -> TaskPeak:
    """Return what a task's line predicted, beside what was measured.

    Args:
        task: its name.
        line: on which it was done.
        measured_bytes: supervisor and worker together, during the task.
        limit_bytes: for the whole agent.
    """
    predicted = line.predicted_peak_bytes
    return TaskPeak(
        task=task,
        rung=line.rung,
        predicted_peak_bytes=predicted,
        measured_peak_bytes=measured_bytes,
        limit_bytes=limit_bytes,
        error=round(predicted / measured_bytes - 1, 4) if measured_bytes else 0.0,
    )
