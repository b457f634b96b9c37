"""What one process does of a device's batches: all of them, or a share.

A device with several accelerators has a worker of several processes (`edge_agent.training.silo`).
Each of them holds the base, or a part of it, and all that is trained, and draws the same rows. Of
some rows of a batch, the process of index i takes i, i + count, i + 2 count ...; gradients and
losses are sums over the processes, so that each takes the very step that one process alone would
have taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import nn

from wire.labels import IGNORED


class Share(Protocol):
    """A process's place among those of its device.

    Attributes:
        index: from 0; the first one speaks for all.
        count: of processes.
    """

    index: int
    count: int

    def together(self) -> AbstractContextManager[None]:
        """Do something in all processes; where one failed, all raise.

        Raises:
            OutOfMemoryError: another process ran out of memory.
            AgentError: another process failed, or this one in a way that is not known.
        """

    def abandon(self, error: Exception) -> None:
        """End all processes where others wait for this one, which failed in a way of its own."""

    def decided(self, answer: bool) -> bool:
        """Return the first process's answer."""

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in float64."""

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Put the sum over all processes in place of each gradient."""

    def spread(self, blocks: Iterable[nn.Module]) -> None:
        """Leave each process a part of frozen blocks only, if the device is set up so."""


class Alone:
    """The only process; see `Share`."""

    index = 0
    count = 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do it."""
        yield

    def abandon(self, error: Exception) -> None:
        """Do nothing: nobody waits."""

    def decided(self, answer: bool) -> bool:
        """Return the answer."""
        return answer

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the values."""
        return list(values)

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Leave them as they are."""

    def spread(self, blocks: Iterable[nn.Module]) -> None:
        """Leave them whole."""


ALONE = Alone()


def share_of(
    share: Share, ids: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this process's rows of some.

    One that gets none takes a row without labels: it has no loss and a gradient of zeros, and the
    process goes through as many passes as the others.

    Args:
        share: of whom.
        ids, labels: (rows, tokens).
    """
    mine = slice(share.index, None, share.count)
    if share.index < len(ids):
        return ids[mine], labels[mine]
    return ids[:1], torch.full_like(labels[:1], IGNORED)
