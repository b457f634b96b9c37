"""Cores that can be moved, of an adapter that is in place in torch."""

from array import array
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.loss import Loss
from edge_agent.training.batches import padded
from edge_agent.training.contract import Placed
from edge_agent.training.start import CORE, Start, core_start
from edge_agent.training.tokens import Row


class PlacedCores:
    """See `edge_agent.inference.contract.CoreSession`.

    Args:
        placed: whose cores are what is trained.
        start: the adapter that was put in place.
        rows: in memory at a time.
    """

    def __init__(self, placed: Placed, start: Start, rows: int) -> None:
        self._placed = placed
        self._rows = max(1, rows)
        self._names = sorted(name for name in placed.trained if name.endswith(CORE))
        #: Of each core, in the order of the targets' names.
        self.sides = [len(placed.trained[name]) for name in self._names]
        self._starts = {
            name: core_start(start, name.removesuffix(CORE), side)[1]
            for name, side in zip(self._names, self.sides, strict=True)
        }

    def loss(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], moves: NDArray[np.float32]
    ) -> Loss:
        """Return the loss of rows with all cores moved."""
        self._move(moves)
        total, tokens = 0.0, 0
        for at in range(0, len(rows), self._rows):
            some = [
                Row(array("i", ids), array("i", labels))
                for ids, labels in rows[at : at + self._rows]
            ]
            loss = self._placed.evaluate_loss(*padded(some), "adapter")
            total, tokens = total + loss.total, tokens + loss.tokens
        return Loss(total, tokens)

    def close(self) -> None:
        """Put the cores back."""
        self._move(np.zeros(sum(side * side for side in self.sides), dtype=np.float32))

    def _move(self, moves: NDArray[np.float32]) -> None:
        first = 0
        for name, side in zip(self._names, self.sides, strict=True):
            move = moves[first : first + side * side].reshape(side, side)
            first += side * side
            with torch.no_grad():
                self._placed.trained[name].copy_(torch.from_numpy(self._starts[name] + move))
