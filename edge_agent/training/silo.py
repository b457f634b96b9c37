"""The processes of a device with several accelerators, as ``accelerate launch`` started them.

Commands and decisions go over a group of their own on the CPU, for its processes wait for the next
command as long as it takes. They are JSON documents: no pickle is read here, either. Gradients go
over the group that accelerate chose (NCCL between GPUs, gloo between CPUs).
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from edge_agent.errors import AgentError
from edge_agent.training.errors import OutOfMemoryError, PausedError, is_out_of_memory

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
        self._mesh = self._sharding = None
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":  # set by accelerate launch
            self._sharding = FullyShardedDataParallelPlugin()
            self._mesh = init_device_mesh(state.device.type, (self.count,))
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
        if error is not None and self._mesh is not None and not isinstance(error, AgentError):
            self.abandon(error)  # between sharded blocks, the others may wait for this one's part
        worst = torch.tensor([_code(error)])
        distributed.all_reduce(worst, distributed.ReduceOp.MAX, group=self._words)
        if isinstance(error, AgentError | PausedError):
            raise error
        if error is not None and not is_out_of_memory(error):
            raise AgentError(f"{type(error).__name__} in a process of several.") from error
        if error is not None:
            raise OutOfMemoryError("an allocation failed: memory is short.") from error
        if int(worst) == _OUT_OF_MEMORY:
            raise OutOfMemoryError("another process of this device ran out of memory.")
        if int(worst) == _FAILED:
            raise AgentError("another process of this device failed; see the worker's log.")

    def abandon(self, error: Exception) -> None:
        """End this process; the launcher then ends the others. Never returns."""
        log.error("%s where others wait for this process; all end", type(error).__name__)
        os._exit(1)

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

    def spread(self, blocks: Iterable[nn.Module]) -> None:
        """Leave each process a part of frozen blocks only, where accelerate is set to FSDP.

        Each block is put together when it is used (ZeRO stage 3 of what is frozen: Rajbhandari et
        al., 2020, arXiv 1910.02054). Factors that are put beside its matrices later stay whole in
        all processes.
        """
        if self._sharding is None:
            return
        here = whole = 0
        for block in blocks:
            whole += sum(value.nbytes for value in block.parameters())
            fully_shard(
                block,
                mesh=self._mesh,
                reshard_after_forward=self._sharding.reshard_after_forward,
            )
            parts = (value for value in block.parameters() if isinstance(value, DTensor))
            here += sum(value.to_local().nbytes for value in parts)
        log.info("%d of %d bytes of the blocks are here", here, whole)

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        distributed.broadcast(tensor, src=0, group=self._words)
        return tensor


def _code(error: Exception | None) -> int:
    if error is None:
        return 0
    return _OUT_OF_MEMORY if is_out_of_memory(error) else _FAILED
