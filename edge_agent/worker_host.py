"""Keeps a worker for as long as it is useful, and within the agent's memory."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from edge_agent.calibration import FULL_EXTRA_BYTES
from edge_agent.limits.enforcement import Enforcement
from edge_agent.planner import RESIDENT
from edge_agent.probe.process import resident_bytes
from edge_agent.protocol import Calibrate, Command, Fetch, Fetched, Pause, Work
from edge_agent.task_run import Settings
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess
from wire.messages import RungPlan

log = logging.getLogger(__name__)

SAMPLE_S = 0.5
#: The rungs that need transformers and PEFT.
FULL_RUNGS = RESIDENT


class WorkerHost:
    """The worker, started when needed, warm between tasks, ended when idle for long.

    Args:
        settings: threads and idle time.
        folder: the agent's state folder, for the worker's log.
        deliver: takes the worker's events.
        limit_bytes: for the whole agent, as it is planned with: the watchdog's.
        enforcement: holds a worker to its share where somebody set a limit.
        hard_bytes: that limit; None where nobody did.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        deliver: Callable[[WorkerEvent | WorkerDied], None],
        *,
        limit_bytes: int,
        enforcement: Enforcement,
        hard_bytes: int | None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._deliver = deliver
        self._limit_bytes = limit_bytes
        self._enforcement = enforcement
        self._hard_bytes = hard_bytes
        self._process: WorkerProcess | None = None
        self._full = False  # the present process has imported transformers and PEFT
        self._past_peak_bytes = 0
        self._past_task_peak_bytes = 0
        self._next_sample = 0.0
        self._idle_since: float | None = None
        self._calibrating: Calibrate | None = None
        self._fetching: Fetch | None = None
        self._killed_for_memory = False
        self._kills = 0  # that the kernel had counted when the present process began
        self.fetched_bytes = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def resident_bytes(self) -> int | None:
        return self._process.resident_bytes if self._process else None

    @property
    def peak_bytes(self) -> int:
        """Greatest resident memory of any worker of this agent."""
        return max(self._past_peak_bytes, self._process.peak_bytes if self._process else 0)

    @property
    def task_peak_bytes(self) -> int:
        """Greatest resident memory since the last `work`."""
        if self._process is None:
            return self._past_task_peak_bytes
        return self._process.task_peak_bytes

    @property
    def calibrating(self) -> Calibrate | None:
        """What the worker is measuring, None if it isn't."""
        return self._calibrating

    @property
    def enforcement(self) -> str:
        """What keeps the worker within its memory."""
        return self._enforcement.kind

    def begin(self) -> None:
        """Make ready to hold workers to their share; `close` ends it."""
        self._enforcement.begin()

    def close(self) -> None:
        """End the worker for good."""
        self.stop()
        self._enforcement.close()

    def base_folder(self, digest: str, derived: str = "") -> Path | None:
        """Return where a base is, or what was derived of it, if it is complete."""
        folder = self.base_place(digest, derived)
        return folder if (folder / "complete").is_file() else None

    def base_place(self, digest: str, derived: str = "") -> Path:
        """Return where a base goes, or what is derived of it."""
        return self._folder / "models" / (f"{digest}-{derived}" if derived else digest)

    def calibrate(self, command: Calibrate) -> None:
        """Let the worker measure this device, unless it already does; `Calibrated` follows."""
        if self._calibrating is None:
            self._calibrating = command
            self._send(command)

    def fetch(self, command: Fetch) -> None:
        """Let the worker fetch a base, unless it already does."""
        if self._fetching is None or self._fetching.folder != command.folder:
            self._fetching = command
            self._send(command)

    @property
    def fetching(self) -> Fetch | None:
        """Which base is on its way, None if none is."""
        return self._fetching

    def work(self, command: Work, line: RungPlan) -> None:
        """Let the worker do a task.

        Args:
            command: the task.
            line: on which it is done.
        """
        self._idle_since = None
        self.make_room(line)
        if self._process is not None and self._hard_bytes is not None:
            self._enforcement.adjust(self._share_bytes(self._hard_bytes))
        process = self._started()
        process.begin_task()
        self._full = self._full or line.rung in FULL_RUNGS
        process.send(command)

    def make_room(self, line: RungPlan) -> None:
        """End a worker that holds libraries which a task can't use, where memory is short."""
        room_bytes = self._limit_bytes - line.predicted_peak_bytes
        if self._full and line.rung not in FULL_RUNGS and room_bytes < FULL_EXTRA_BYTES:
            log.info("rung %s gets a worker without transformers and PEFT", line.rung)
            self.stop()

    def pause(self, task: str) -> None:
        """Ask the worker to let go of its task once a step ends; `Paused` follows."""
        if self._process is not None:
            self._process.send(Pause(task=task))

    def on_fetched(self, event: Fetched) -> None:
        self._fetching = None
        self.fetched_bytes += event.downloaded_bytes

    def on_idle(self) -> None:
        """The worker ended a command."""
        self._calibrating = None
        self._fetching = None
        if self._process is not None:
            self._process.sample()

    def ran_out(self, code: int) -> bool:
        """Return whether a worker that ended with this code was killed for its memory.

        A signal 9 that nobody here sent is the kernel's, for all that can be known.
        """
        counted = self._enforcement.kills() > self._kills
        return self._killed_for_memory or counted or code == -signal.SIGKILL

    def on_death(self) -> None:
        """The process is gone; the next command starts another."""
        if self._process is not None:
            self._past_peak_bytes = self.peak_bytes
            self._past_task_peak_bytes = self._process.task_peak_bytes
            self._process.stop()
        self._process = None
        self._full = False
        self._calibrating = None
        self._fetching = None
        self._killed_for_memory = False

    def replace(self) -> None:
        """End the worker in the middle of its task; the next command starts another."""
        if self._process is not None:
            self._process.sample()
            self._process.kill()
            self.on_death()

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.stop()
            self.on_death()

    def tick(self, now: float, *, busy: bool) -> None:
        """Sample the memory; end a worker that exceeds it, or that idled for long."""
        if self._process is None or now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_S
        used = self._process.sample() + (resident_bytes(os.getpid()) or 0)
        if used > self._limit_bytes and not self._killed_for_memory and not self._calibrating:
            log.warning("%d bytes are used of %d; ending the worker", used, self._limit_bytes)
            self._killed_for_memory = True
            self._process.kill()
            return
        if busy or self._calibrating or self._fetching:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self._settings.worker_idle_s:
            log.info("the worker was idle for %.0f s; ended", now - self._idle_since)
            self.stop()

    def _send(self, command: Command) -> None:
        self._started().send(command)

    def _started(self) -> WorkerProcess:
        if self._process is None:
            self._process = WorkerProcess(
                self._settings.threads,
                self._folder / "worker.log",
                self._deliver,
                self._settings.silo,
            )
            self._kills = self._enforcement.kills()
            if self._hard_bytes is not None:  # before the first command, it imports nothing
                self._enforcement.hold(self._process.pid, self._share_bytes(self._hard_bytes))
        return self._process

    def _share_bytes(self, hard_bytes: int) -> int:
        return max(0, hard_bytes - (resident_bytes(os.getpid()) or 0))
