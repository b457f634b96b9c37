"""The worker: a process of its own for everything that computes, with torch or with an engine.

It reads commands from standard input and writes events to a private copy of standard output; the
real one then leads to standard error, where a library's prints do no harm. It ends as soon as its
standard input does: the supervisor is gone. No text of the data stands in anything it writes; of
an error that it does not know it tells the class and the place only.
"""

import logging
import os
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import msgspec

from edge_agent.calibration import Measured
from edge_agent.companions import go_along, has_companions, join, share
from edge_agent.errors import AdapterError, AgentError, DataError, DifferenceError, ModelError
from edge_agent.fetch import FetchError, fetch
from edge_agent.fetch_derived import NotMadeError, fetch_derived
from edge_agent.protocol import (
    Calibrate,
    Calibrated,
    Command,
    Event,
    Failed,
    Fetch,
    Fetched,
    Pause,
    Paused,
    Progress,
    Ready,
    TrainLocal,
    Warm,
    Work,
)
from edge_agent.runtimes import TORCH, chosen_runtime, forbid_torch
from edge_agent.throttle import DayUsedUpError, Throttle
from edge_agent.training.errors import OutOfMemoryError, PausedError, is_out_of_memory

if TYPE_CHECKING:
    from edge_agent.inference.tasks import EngineTasks
    from edge_agent.training.silo import Silo
    from edge_agent.training.task import Tasks

log = logging.getLogger(__name__)

PROGRESS_S = 0.25
_KINDS: dict[type[AgentError], str] = {
    DifferenceError: "difference",  # before the class that it is one of
    AdapterError: "adapter",
    DataError: "data",
    NotMadeError: "derived",  # likewise
    FetchError: "network",
    DayUsedUpError: "network",
    ModelError: "model",
    OutOfMemoryError: "memory",
}


class Worker:
    """Does commands one after the other.

    Args:
        events: where events are written, one JSON document a line.
        silo: the other processes of this worker, if it has several.
        runtime: that it computes with, of `edge_agent.runtimes`.
    """

    def __init__(self, events: BinaryIO, silo: "Silo | None" = None, runtime: str = TORCH) -> None:
        self._events = events
        self._silo = silo
        self._runtime = runtime
        self._tasks: Tasks | EngineTasks | None = None
        self._pause: str | None = None  # name of a task
        self._told_at = 0.0

    def do(self, command: Command) -> None:
        """Do one command; whatever goes wrong is reported, and the worker goes on."""
        task = command.task if isinstance(command, Work | TrainLocal) else ""
        failure: Failed | Paused | None = None
        try:
            self._do(command)
        except PausedError as error:
            failure = Paused(task=task, step=error.step)
        except Exception as error:
            failure = _failure(task, error)
        if failure is None:
            return
        # Only now: while an error is handled, its frames keep the task's tensors alive.
        if self._tasks is not None:
            self._tasks.release()
        self.report(failure)

    def on_read(self, command: Command) -> None:
        """Take note of a command as soon as it is read, while another one is being done."""
        match command:
            case Pause(task=task):
                self._pause = task
            case Work():
                self._pause = None  # what was asked of a task before does not hold for it again
            case _:
                pass

    def pause_asked(self, task: str) -> bool:
        """Return whether the running task is to be paused."""
        return self._pause == task

    def report(self, event: Event) -> None:
        """Write an event; progress in the middle of a stage only a few times a second."""
        if isinstance(event, Progress) and 0 < event.step < event.steps:
            if time.monotonic() - self._told_at < PROGRESS_S:
                return
            self._told_at = time.monotonic()
        self._events.write(msgspec.json.encode(event) + b"\n")
        self._events.flush()

    def _do(self, command: Command) -> None:
        match command:
            case Warm(full=full):
                self._warm()
                if full and self._runtime == TORCH:
                    _import_resident()
                self.report(Ready(runtime_bytes=_resident_bytes(), full=full))
            case Calibrate(wide=wide, full=full):
                self._warm()
                if self._runtime != TORCH:
                    self.report(Calibrated(measured=Measured(lean_bytes=_resident_bytes())))
                    return
                from edge_agent.training.calibrate import measure

                measured = measure(wide=wide, import_resident=_import_resident if full else None)
                self.report(Calibrated(measured=measured))
            case Fetch():
                throttle = Throttle(command.bytes_per_s, command.most_bytes)

                def fetching(done: int, total: int) -> None:
                    passed = throttle.passed_bytes
                    self.report(
                        Progress(
                            task="", stage="fetch", step=done, steps=total, fetched_bytes=passed
                        )
                    )

                if command.derived:
                    downloaded = fetch_derived(
                        command.http,
                        command.digest,
                        command.derived,
                        command.folder,
                        fetching,
                        throttle=throttle,
                    )
                else:
                    downloaded = fetch(
                        command.http, command.digest, command.folder, fetching, throttle
                    )
                self.report(
                    Fetched(
                        digest=command.digest,
                        folder=command.folder,
                        downloaded_bytes=downloaded,
                    )
                )
            case Work():
                self._warm().run(command)
            case TrainLocal():
                if self._runtime != TORCH:
                    raise AgentError(f"training wants torch; this worker runs {self._runtime}.")
                self._warm()
                from edge_agent.training.local import train_local

                train_local(command, self.report, self.pause_asked)

    def _warm(self) -> "Tasks | EngineTasks":
        if self._tasks is None and self._runtime != TORCH:
            from edge_agent.inference.open import import_engine
            from edge_agent.inference.tasks import EngineTasks

            import_engine(self._runtime)
            self._tasks = EngineTasks(self.report, self.pause_asked, _threads())
        if self._tasks is None:
            tasks = _import_training()
            self._tasks = (
                tasks(self.report, self.pause_asked, self._silo)
                if self._silo is not None
                else tasks(self.report, self.pause_asked)
            )
        return self._tasks


def main() -> NoReturn:
    """Serve commands until standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    sys.excepthook = lambda _, error, __: log.error("%s", describe(error))
    commands, events = _private_pipes()
    silo = join() if has_companions() else None
    if silo is not None and silo.index:
        with Path(os.devnull).open("wb") as nowhere:
            go_along(silo, Worker(nowhere, silo))
    waiting: SimpleQueue[Command] = SimpleQueue()
    runtime = TORCH if silo is not None else chosen_runtime()
    if runtime != TORCH:
        forbid_torch()
    worker = Worker(events, silo, runtime)
    # The launcher ends the others only if the first one seems to have failed.
    code = 0 if silo is None else 1
    threading.Thread(target=_read, args=(commands, worker, waiting, code), daemon=True).start()
    while True:
        try:
            command = waiting.get()
            if silo is not None:
                share(silo, command)
            worker.do(command)
        except BrokenPipeError:
            os._exit(code)


def describe(error: BaseException) -> str:
    """Return an unknown error's class and place; its message could quote the data."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "edge_agent" in frame.filename] or list(frames)
    place = f" at {os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else ""  # noqa: PTH119 - not a path of ours
    return f"{type(error).__name__}{place}"


def _failure(task: str, error: Exception) -> Failed:
    if isinstance(error, BrokenPipeError):
        raise error
    if is_out_of_memory(error):
        return Failed(task=task, kind="memory", message="an allocation failed: memory is short.")
    if isinstance(error, AgentError):
        kind = next((kind for cls, kind in _KINDS.items() if isinstance(error, cls)), "other")
        return Failed(task=task, kind=kind, message=str(error))
    log.error("unknown error: %s", describe(error))
    return Failed(task=task, kind="other", message=describe(error))


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for ourselves; libraries get nothing and standard error."""
    commands = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, events


def _read(commands: BinaryIO, worker: Worker, waiting: "SimpleQueue[Command]", code: int) -> None:
    for line in commands:
        try:
            command = msgspec.json.decode(line, type=Command)
        except msgspec.DecodeError as error:
            log.error("a command can't be read: %s", error)
            continue
        worker.on_read(command)
        if not isinstance(command, Pause):
            waiting.put(command)
    os._exit(code)  # in the middle of a step, too: nobody is left to take the result


def _import_training() -> "type[Tasks]":
    """Import torch, and use once what it loads late; some seconds and some 230 MB."""
    import torch

    torch.set_num_threads(max(1, _threads() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    # PEFT 0.21 asks transformers 5 for a property that is about to go; neither is ours to mend.
    warnings.filterwarnings(
        "ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning
    )
    from edge_agent.training.blockwise.rehearse import rehearse
    from edge_agent.training.code_pages import give_back_code
    from edge_agent.training.heap import trim_heap
    from edge_agent.training.task import Tasks

    # What the rehearsal touches again is what training needs, and what is measured after it.
    give_back_code()
    rehearse()
    trim_heap()
    return Tasks


def _import_resident() -> None:
    """Import transformers and PEFT on top, and use them once."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    from edge_agent.training.heap import trim_heap
    from edge_agent.training.rehearse import rehearse

    rehearse()
    trim_heap()


def _threads() -> int:
    return int(os.environ.get("LORIKEET_THREADS", "0")) or _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _resident_bytes() -> int:
    from edge_agent.probe.process import resident_bytes

    return resident_bytes(os.getpid()) or 0


if __name__ == "__main__":
    main()
