"""The worker as the supervisor sees it: a child process that takes commands and reports events."""

import logging
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from edge_agent.probe.process import forget_peak, peak_bytes, resident_bytes, with_descendants
from edge_agent.protocol import Command, Event
from edge_agent.silo import Silo
from wire.worker_start import start_worker

log = logging.getLogger(__name__)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


class WorkerEvent(msgspec.Struct, frozen=True):
    """The worker reported."""

    worker: int  # pid: an event of a worker that was replaced is of no interest
    event: Event


class WorkerDied(msgspec.Struct, frozen=True):
    """The worker's process ended. ``code`` is negative for a signal: -9 is often the kernel."""

    worker: int
    code: int


class WorkerProcess:
    """One worker; ended for good by `stop` or by its own death.

    Args:
        threads: for arithmetic; 0 for one on each core.
        log_file: is appended to.
        deliver: takes its events.
        silo: starts it as several processes; its memory is then that of all of them.

    Attributes:
        pid: of the process.
        resident_bytes: when it was last looked at.
        peak_bytes: the greatest ever seen.
        task_peak_bytes: the greatest since `begin_task`.
    """

    def __init__(
        self,
        threads: int,
        log_file: Path,
        deliver: Callable[[WorkerEvent | WorkerDied], None],
        silo: Silo | None = None,
    ) -> None:
        self._deliver = deliver
        self.peak_bytes = 0
        self.task_peak_bytes = 0
        self.resident_bytes = 0
        self._kernel_s_peak = True  # whether the kernel's own peak is the running task's
        self._several = silo is not None
        config = Path(silo.config) if silo is not None else None
        self._process = start_worker(threads, log_file, config)
        assert self._process.stdin is not None  # noqa: S101  (both are pipes: see above)
        assert self._process.stdout is not None  # noqa: S101
        self._stdin: IO[bytes] = self._process.stdin
        self._stdout: IO[bytes] = self._process.stdout
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name="worker-reader", daemon=True)
        self._reader.start()

    def send(self, command: Command) -> None:
        """Give the worker something to do; a dead worker is reported by `WorkerDied` instead."""
        try:
            self._stdin.write(_encoder.encode(command) + b"\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError):
            log.info("the worker ended before it took %s", type(command).__name__)

    def sample(self) -> int:
        """Measure the worker's memory; return what is resident, in bytes."""
        pids = self._pids()
        self.resident_bytes = sum(resident_bytes(pid) or 0 for pid in pids)
        greatest = max(self.resident_bytes, sum(peak_bytes(pid) or 0 for pid in pids))
        self.peak_bytes = max(self.peak_bytes, greatest)
        seen = greatest if self._kernel_s_peak else self.resident_bytes
        self.task_peak_bytes = max(self.task_peak_bytes, seen)
        return self.resident_bytes

    def begin_task(self) -> None:
        """Measure the peak anew from here."""
        self.sample()
        forgotten = [forget_peak(pid) for pid in self._pids()]
        self._kernel_s_peak = all(forgotten)
        self.task_peak_bytes = self.resident_bytes

    def kill(self) -> None:
        """End it now; `WorkerDied` follows."""
        self._process.kill()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End it in good order, then by force. Its pipes are closed when this returns."""
        self.sample()
        try:
            self._stdin.close()
        except BrokenPipeError:
            log.debug("the worker had closed its end")
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout_s)

    def _pids(self) -> list[int]:
        return with_descendants(self.pid) if self._several else [self.pid]

    def _read(self) -> None:
        with self._stdout as lines:
            for line in lines:
                try:
                    event = _decoder.decode(line)
                except msgspec.DecodeError as error:
                    log.warning("the worker wrote something unreadable: %s", error)
                    continue
                self._deliver(WorkerEvent(self.pid, event))
        self._deliver(WorkerDied(self.pid, self._process.wait()))
