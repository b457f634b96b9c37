"""Keys and values of some sequences, in arrays that runs read where they lie."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.onnx.model import Sizes

Array = NDArray[np.float32]
#: Of all layers, keys and values of one piece of a sequence, each (batch, kv_heads, positions,
#: size).
Piece = Sequence[tuple[Array, Array]]

_STEP = 64  # positions by which arrays grow


class Cache:
    """Sequences, each with what stands in front of it.

    Args:
        sizes: of the model.
        slots: how many sequences there are.
        front: what stands in front of each, of batch 1; None for nothing.

    Attributes:
        front: how many positions that is.
        lengths: positions of each sequence, those in front included.
    """

    def __init__(self, sizes: Sizes, slots: int, front: Piece | None = None) -> None:
        self.front = 0 if front is None else front[0][0].shape[2]
        self.lengths = [self.front] * slots
        shape = (slots, sizes.kv_heads, self.front, sizes.head_dim)
        self._layers = [
            (np.zeros(shape, np.float32), np.zeros(shape, np.float32)) for _ in range(sizes.layers)
        ]
        for layer, piece in zip(self._layers, front or (), strict=False):
            for held, values in zip(layer, piece, strict=True):
                held[:] = values

    def past(self, slots: slice) -> Piece:
        """Return what some slots hold, without a copy."""
        return [(key[slots], value[slots]) for key, value in self._layers]

    def reserve(self, positions: int) -> None:
        """Make room for sequences of so many positions, those in front included."""
        room = self._layers[0][0].shape[2]
        if positions <= room:
            return
        wanted = positions + -positions % _STEP
        # One layer after the other: never are there two copies of all.
        for at, (key, value) in enumerate(self._layers):
            self._layers[at] = _longer(key, wanted), _longer(value, wanted)

    def append(self, slot: int, piece: Piece, row: int, positions: int) -> None:
        """Put a piece's first positions behind a sequence; there is room (`reserve`).

        Args:
            slot: the sequence.
            piece: what a run made.
            row: of the piece.
            positions: how many.
        """
        start, end = self.lengths[slot], self.lengths[slot] + positions
        for layer, made in zip(self._layers, piece, strict=True):
            for held, values in zip(layer, made, strict=True):
                held[slot, :, start:end] = values[row, :, :positions]
        self.lengths[slot] = end

    def keep(self, slot: int, positions: int) -> None:
        """Forget all but the first positions behind what stands in front."""
        self.lengths[slot] = min(self.lengths[slot], self.front + positions)


def _longer(held: Array, positions: int) -> Array:
    slots, heads, room, size = held.shape
    grown = np.zeros((slots, heads, positions, size), np.float32)
    grown[:, :, :room] = held
    return grown
