"""A base whose weights an adapter has moved, to be measured only: both stay in their files.

A device that can't hold a whole model to train it can still tell how good it is. The moved model is
written to a folder of its own, a tensor at a time, and gone through block by block like any base.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.errors import AdapterError, AgentError
from edge_agent.loss import Loss
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Base, Placed, Trained
from edge_agent.training.start import FreshStart, Start
from wire.errors import WireError
from wire.whole_model import write_whole


class MovedModel:
    """A base and its moved copy; see `edge_agent.training.contract.Placed`.

    Args:
        base: open for a rung that leaves it in its file.
        folder: of that base.
        start: by how much the weights have moved.
        rung: for the copy.
        work: a folder for the copy, which is deleted by `close`.

    Raises:
        AdapterError: the adapter is of other weights, or a file of it is broken.
        AgentError: the copy can't be written.
    """

    trained: dict[str, torch.Tensor]

    def __init__(self, base: Base, folder: Path, start: Start, *, rung: str, work: Path) -> None:
        self.trained = {}
        self._folder = work
        try:
            write_whole(work, folder, start.weight, start.weights)
            self._copy = open_base(work, rung)
        except BaseException as error:
            shutil.rmtree(work, ignore_errors=True)  # as large as the model
            if isinstance(error, WireError):
                raise AdapterError(f"{start.name}: {error}") from error
            if isinstance(error, OSError):
                raise AgentError(f"the moved model can't be written: {error.strerror}.") from error
            raise
        nothing = FreshStart({}, 0, 0, base.hidden_size, 0)
        self._bare: Placed = base.place(nothing, Trained())
        self._moved: Placed = self._copy.place(nothing, Trained())

    def evaluate_loss(self, ids: torch.Tensor, labels: torch.Tensor, variant: str) -> Loss:
        """Return the loss of a batch."""
        placed = self._bare if variant == "base" else self._moved
        return placed.evaluate_loss(ids, labels, variant)

    def backward_loss(self, *_: object, **__: object) -> Loss:
        """Refuse: nothing is trained.

        Raises:
            AdapterError: always.
        """
        raise AdapterError("a moved model in its file is measured only. Use role full.")

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return nothing."""
        return {}

    def values(self) -> dict[str, NDArray[np.float32]]:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Give up the copy."""
        self._copy.close()
        shutil.rmtree(self._folder, ignore_errors=True)
