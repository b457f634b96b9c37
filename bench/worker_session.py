"""Drives an agent's worker without agent, hub and broker: one command, then its events."""

import queue
from pathlib import Path
from types import TracebackType

from bench.report import BenchError
from edge_agent.protocol import Failed, Finished, Losses, Work
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess
from wire.messages import Evaluation

_PATIENCE_S = 900.0


class WorkerSession:
    """A worker of our own; a context manager that ends it.

    Args:
        threads: for arithmetic.
        log: gets what the worker writes to standard error.
    """

    def __init__(self, threads: int, log: Path) -> None:
        self._log = log
        self._events: queue.Queue[WorkerEvent | WorkerDied] = queue.Queue()
        self._process = WorkerProcess(threads, log, self._events.put)

    def do(self, work: Work) -> tuple[list[Evaluation], Finished]:
        """Do one task.

        Returns:
            What it evaluated, and its end.

        Raises:
            BenchError: it failed, or the worker died.
        """
        self._process.send(work)
        evaluations: list[Evaluation] = []
        while True:
            try:
                got = self._events.get(timeout=_PATIENCE_S)
            except queue.Empty:
                raise BenchError(f"the worker said nothing for {_PATIENCE_S:.0f} s.") from None
            if isinstance(got, WorkerDied):
                raise BenchError(f"the worker ended with code {got.code}; see {self._log}.")
            match got.event:
                case Losses(evaluations=found):
                    evaluations = found
                case Failed(message=message):
                    raise BenchError(f"task {work.task} failed: {message}")
                case Finished() as finished:
                    return evaluations, finished
                case _:
                    pass

    def __enter__(self) -> "WorkerSession":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.stop()
