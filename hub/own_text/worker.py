"""A worker on the hub's machine: a process with torch, for as long as one round needs it."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import msgspec

from hub.errors import HubError
from wire.messages import Evaluation, TrainMetrics
from wire.work import Failed, Finished, Losses, Work, WorkEvent
from wire.worker_start import start_worker

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[WorkEvent] = msgspec.json.Decoder(WorkEvent)


class OwnTextError(HubError):
    """The hub's own text could not be used; the round goes on without it."""


class Done(NamedTuple):
    """What came of a task.

    Attributes:
        update: the packed update's file; None where nothing was to be trained.
        train: what was measured while training.
        evaluations: what was measured besides.
    """

    update: Path | None
    train: TrainMetrics | None
    evaluations: list[Evaluation]


class Worker:
    """Does tasks one after the other; ended for good by `close`, or by `kill` from any thread.

    Args:
        log_file: for what the process has to say of itself; is appended to.

    Attributes:
        pid: of the process.
    """

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._process = start_worker(0, log_file)
        self.pid = self._process.pid
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="own-text-reader", daemon=True)
        self._reader.start()

    def do(self, work: Work, max_s: float) -> Done:
        """Do a task; return what came of it.

        Args:
            work: the task.
            max_s: how long it may take, in seconds.

        Raises:
            OwnTextError: it can't be done, took too long, or the process ended. The worker is of
                no more use then.
        """
        until = time.monotonic() + max_s
        self._send(work)
        evaluations: list[Evaluation] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise OwnTextError(
                    f"it took longer than {max_s:g} s. Raise hub.max_s, or give less work."
                ) from None
            match self._event(line):
                case Losses(evaluations=found):
                    evaluations += found
                case Failed(kind="memory", message=message):
                    raise OwnTextError(f"{message} Lower hub.batch, or use hub.rung streamed.")
                case Failed(message=message):
                    raise OwnTextError(message)
                case Finished(update=update, train=train):
                    return Done(Path(update) if update else None, train, evaluations)
                case _:
                    pass

    def kill(self) -> None:
        """End the process now; whoever waits for a task is told."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and see it gone."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # of what was written and not read
                if pipe is not None:
                    pipe.close()

    def _send(self, work: Work) -> None:
        if self._process.stdin is None:
            return
        with suppress(BrokenPipeError):  # the reader tells of the end
            self._process.stdin.write(_encoder.encode(work) + b"\n")
            self._process.stdin.flush()

    def _event(self, line: bytes) -> WorkEvent:
        if not line:
            self._lines.put(line)  # whoever asks it again is told the same
            raise OwnTextError(self._ending())
        try:
            return _decoder.decode(line)
        except msgspec.DecodeError as error:
            raise OwnTextError(f"its worker wrote something unreadable: {error}.") from error

    def _ending(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"its worker was ended by signal {-code}; where that is 9, memory may be short."
        return f"its worker ended with status {code}; {self._log_file} may tell why."

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(b"")
