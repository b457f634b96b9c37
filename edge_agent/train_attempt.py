"""One local task in one worker: started, held to its memory, followed to its end."""

import os
import queue
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_agent.errors import AgentError, DataError, ModelError
from edge_agent.limits.enforcement import WATCHDOG, Enforcement
from edge_agent.probe.process import peak_bytes, resident_bytes
from edge_agent.protocol import (
    Counted,
    Event,
    Failed,
    Losses,
    Pause,
    Paused,
    Progress,
    TrainedLocal,
    TrainLocal,
    Warm,
)
from edge_agent.worker_host import FULL_RUNGS
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess
from wire.messages import DataSummary, Evaluation

SAMPLE_S = 0.25
_KINDS: dict[str, type[AgentError]] = {"data": DataError, "model": ModelError}


class WorkerMemoryError(AgentError):
    """The worker ran out of memory: a lower rung may do.

    Attributes:
        used_bytes: the greatest memory of the agent that was seen.
    """

    def __init__(self, message: str, used_bytes: int) -> None:
        super().__init__(message)
        self.used_bytes = used_bytes


class StoppedError(AgentError):
    """Somebody asked for an end before the training's."""


def in_options(message: str) -> str:
    """Return a worker's message with the options that stand for a job file's keys here."""
    return re.sub(r"\blocal\.(\w+)", lambda key: "--" + key[1].replace("_", "-"), message)


class View(Protocol):
    """Who is told how it goes."""

    def say(self, text: str) -> None: ...

    def counted(self, event: Counted) -> None: ...

    def progress(self, event: Progress) -> None: ...

    def held_out(self, evaluation: Evaluation) -> None: ...


class Attempt:
    """A worker with one task.

    Args:
        command: the task.
        threads: for arithmetic.
        limit_bytes: for this process and the worker together.
        enforcement: what keeps the worker within it.
        log_file: takes what the worker's libraries print.
        view: is told how it goes.
        stops_asked: how often somebody asked for an end; the second time it is one at once.

    Attributes:
        data: counts of the text.
        held_out: losses on held-out text, by variant.
        worker_peak_bytes: greatest resident memory of the worker.
        peak_bytes: the same of this process and the worker together.
    """

    def __init__(
        self,
        command: TrainLocal,
        *,
        threads: int,
        limit_bytes: int,
        enforcement: Enforcement,
        log_file: Path,
        view: View,
        stops_asked: Callable[[], int] = lambda: 0,
    ) -> None:
        self._command = command
        self._limit_bytes = limit_bytes
        self._enforcement = enforcement
        self._log_file = log_file
        self._view = view
        self._inbox: queue.Queue[WorkerEvent | WorkerDied] = queue.Queue()
        self._threads = threads
        self._over_bytes: int | None = None  # what the watchdog saw
        self._step = 0
        self._stops_asked = stops_asked
        self._pausing = False
        self.held_out: dict[str, Evaluation] = {}
        self.data: DataSummary | None = None
        self.worker_peak_bytes = 0

    @property
    def peak_bytes(self) -> int:
        return self.worker_peak_bytes + (peak_bytes(os.getpid()) or 0)

    def run(self) -> TrainedLocal:
        """Start the worker, and return what it made.

        Raises:
            WorkerMemoryError: it was killed for memory, or could not get any.
            StoppedError: that was asked for.
            AgentError: the task can't be done.
        """
        kills = self._enforcement.kills()
        worker = WorkerProcess(self._threads, self._log_file, self._inbox.put)
        try:
            own_bytes = resident_bytes(os.getpid()) or 0
            self._enforcement.hold(worker.pid, max(1, self._limit_bytes - own_bytes))
            worker.send(Warm(full=self._command.rung in FULL_RUNGS))
            worker.send(self._command)
            return self._follow(worker, kills)
        finally:
            worker.kill()
            worker.stop()

    def _follow(self, worker: WorkerProcess, kills: int) -> TrainedLocal:
        while True:
            self._heed_stop(worker)
            try:
                event = self._inbox.get(timeout=SAMPLE_S)
            except queue.Empty:
                self._sample(worker)
                continue
            self._sample(worker)
            if isinstance(event, WorkerDied):
                raise self._died(event.code, self._enforcement.kills() > kills)
            finished = self._on_event(event.event)
            if finished is not None:
                return finished

    def _on_event(self, event: Event) -> TrainedLocal | None:
        match event:
            case TrainedLocal():
                return event
            case Failed(kind="memory"):
                raise WorkerMemoryError(event.message, self.peak_bytes)
            case Failed():
                raise _KINDS.get(event.kind, AgentError)(in_options(event.message))
            case Counted():
                self.data = event.data
                self._view.counted(event)
            case Paused():
                raise StoppedError(f"stopped after step {event.step}.")
            case Progress():
                self._step = event.step if event.stage == "train" else 0
                self._view.progress(event)
            case Losses():
                for evaluation in event.evaluations:
                    self.held_out[evaluation.variant] = evaluation
                    self._view.held_out(evaluation)
        return None

    def _heed_stop(self, worker: WorkerProcess) -> None:
        """Let a training that has begun save its state; anything else holds nothing to save.

        Raises:
            StoppedError: there is nothing to wait for.
        """
        asked = self._stops_asked()
        if not asked:
            return
        if asked > 1 or not self._step:
            raise StoppedError("stopped.")
        if not self._pausing:
            self._pausing = True
            self._view.say("stopping after this step; once more to stop at once")
            worker.send(Pause(task=self._command.task))

    def _sample(self, worker: WorkerProcess) -> None:
        """Measure; without a control group, end a worker that takes too much."""
        used_bytes = worker.sample() + (resident_bytes(os.getpid()) or 0)
        self.worker_peak_bytes = worker.peak_bytes
        watched = self._enforcement.kind == WATCHDOG
        if watched and used_bytes > self._limit_bytes and self._over_bytes is None:
            self._over_bytes = used_bytes
            worker.kill()

    def _died(self, code: int, killed: bool) -> AgentError:
        if self._over_bytes is not None:
            used = self._over_bytes
            return WorkerMemoryError(
                f"{used} bytes were used of {self._limit_bytes}; the worker was ended.", used
            )
        if killed or code == -signal.SIGKILL:
            return WorkerMemoryError("the kernel killed the worker for memory.", self.peak_bytes)
        last = self._log_file.read_text(errors="replace").strip().splitlines()[-1:]
        return AgentError(
            f"the worker ended with code {code}: {''.join(last)[:300]} (log: {self._log_file})"
        )
