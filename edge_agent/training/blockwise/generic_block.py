"""One block of a model of transformers, by its own code."""

import torch

from edge_agent.training.blockwise.around import Around
from edge_agent.training.blockwise.block import Prefix


class GenericBlock:
    """See `architecture.DecoderBlock`.

    Args:
        index: which one.
        around: knows the module, and what it is given beside its input.
        matrices: names of what it reads from the file, in order.
    """

    def __init__(self, index: int, around: Around, matrices: list[str]) -> None:
        self.prefix: Prefix | None = None  # never set: where it goes differs from family to family
        self._index = index
        self._around = around
        self._matrices = matrices

    def names(self) -> list[str]:
        """Return the matrices in the order of their use."""
        return self._matrices

    def __call__(
        self,
        x: torch.Tensor,
        rows: int,
        *,
        needed: bool = True,  # noqa: ARG002 - which product comes last is the model's own business
    ) -> tuple[torch.Tensor]:
        """Return the block's output, (rows * tokens, hidden)."""
        return (self._around.block(self._index, x, rows),)
