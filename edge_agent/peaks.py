"""What the last tasks were predicted to take, and took: kept on disk, told in telemetry."""

import logging
from pathlib import Path

import msgspec

from wire.messages import RungPlan, TaskPeak

log = logging.getLogger(__name__)

#: Kept on disk; and told, the newest of them: each one travels with every snapshot.
KEPT = 64
TOLD = 3


class Peaks:
    """The peaks of a device's tasks, the newest last.

    Args:
        file: where they are kept. One that can't be read counts as empty.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.all: list[TaskPeak] = []
        try:
            self.all = msgspec.json.decode(file.read_bytes(), type=list[TaskPeak])[-KEPT:]
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is passed over: %s", file, error)

    @property
    def told(self) -> list[TaskPeak]:
        """Those that stand in telemetry."""
        return self.all[-TOLD:]

    def add(self, peak: TaskPeak) -> None:
        """Keep one."""
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
        error=predicted / measured_bytes - 1 if measured_bytes else 0.0,
    )
