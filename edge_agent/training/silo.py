"""The processes of a device with several accelerators, as ``accelerate launch`` started them.

Commands and decisions go over a group of their own on the CPU, for its processes wait for the next
command as long as it takes. They are JSON documents: no pickle is read here, either. Gradients go
over the group that accelerate chose (NCCL between GPUs, gloo between CPUs).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState
from torch import distributed

from edge_agent.errors import AgentError
from edge_agent.training.errors import OutOfMemoryError, is_out_of_memory

log = logging.getLogger(__name__)

#: A process waits for its next command, not for the others: how long says the supervisor.
_PATIENCE = timedelta(days=365)
_FAILED, _OUT_OF_MEMORY = 1, 2


class Silo:
    """This process among the others; see `edge_agent.training.share.Share`."""

    def __init__(self) -> None:
        state = PartialState(cpu=not torch.cuda.is_available())
        self.index = int(state.process_index)
        self.count = int(state.num_processes)
        self._words = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        log.info("process %d of %d, on %s", self.index + 1, self.count, state.device)

    def tell(self, document: bytes) -> None:
        """Give all other processes a document; only the first process may."""
        self._broadcast(torch.tensor([len(document)]))
        self._broadcast(torch.frombuffer(bytearray(document), dtype=torch.uint8))

    def heard(self) -> bytes:
        """Wait for the first process's next document, and return it."""
        length = self._broadcast(torch.zeros(1, dtype=torch.int64))
        found = self._broadcast(torch.empty(int(length), dtype=torch.uint8))
        return found.numpy().tobytes()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do something in all processes; where one failed, all raise."""
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        worst = torch.tensor([_code(error)])
        distributed.all_reduce(worst, distributed.ReduceOp.MAX, group=self._words)
        if error is not None:
            raise error
        if int(worst) == _OUT_OF_MEMORY:
            raise OutOfMemoryError("another process of this device ran out of memory.")
        if int(worst) == _FAILED:
            raise AgentError("another process of this device failed; see the worker's log.")

    def decided(self, answer: bool) -> bool:
        """Return the first process's answer."""
        return bool(self._broadcast(torch.tensor([int(answer)])))

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in float64."""
        totals = torch.tensor(list(values), dtype=torch.float64)
        distributed.all_reduce(totals, group=self._words)
        found: list[float] = totals.tolist()
        return found

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Put the sum over all processes in place of each gradient."""
        gradients = [value.grad for value in parameters if value.grad is not None]
        for one in [distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
            one.wait()

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        distributed.broadcast(tensor, src=0, group=self._words)
        return tensor


def _code(error: Exception | None) -> int:
    if error is None:
        return 0
    return _OUT_OF_MEMORY if is_out_of_memory(error) else _FAILED
