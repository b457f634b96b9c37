"""What the passes want of a model's architecture: blocks, and what stands around them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from edge_agent.training.blockwise.block import Prefix
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.linear import Slot


class DecoderBlock(Protocol):
    """One block.

    Attributes:
        prefix: keys and values in front of all positions, or None.
    """

    prefix: Prefix | None

    def names(self) -> list[str]:
        """Return the matrices in the order of their use."""

    def __call__(
        self, x: torch.Tensor, rows: int, *, needed: bool = True
    ) -> tuple[torch.Tensor, ...]:
        """Return the block's output as one or more summands, each (rows * tokens, hidden).

        Args:
            x: (rows * tokens, hidden).
            rows: sequences in x.
            needed: False where only gradients are wanted: the output's values may be left out.
        """


class Ends(Protocol):
    """What a model computes before its first block and behind its last one."""

    def enter(self, ids: torch.Tensor, prompt: torch.Tensor | None) -> torch.Tensor:
        """Return the first block's input, (rows * (positions + tokens), hidden).

        Args:
            ids: (rows, tokens) int64.
            prompt: (positions, width) in front of each row, or None.
        """

    def leave(self, x: torch.Tensor, rows: int, places: torch.Tensor) -> torch.Tensor:
        """Return what the head takes, (n, width).

        Args:
            x: the last block's output, (rows * tokens, hidden).
            rows: sequences in x.
            places: (n,) rows of x that are wanted.
        """


class LossHead(Protocol):
    """The last matrix and the loss behind it."""

    def loss(
        self, states: torch.Tensor, wanted: torch.Tensor, *, with_gradient: bool
    ) -> tuple[float, torch.Tensor | None]:
        """Return the loss's sum, and the gradient of its mean; see `head.Head.loss`."""


class Architecture(Protocol):
    """How the tensors of a base's file make a language model.

    Attributes:
        weights: the tensors, by module paths.
        targets: linear layers of the blocks, (out, in) by module path.
        flipped: those of them whose matrix is stored as (in, out).
        width: of an embedding.
        heads: key-value heads and their size, for a prefix in every block; None where a prefix
            can't be had.
        ends: around the blocks.
        head: behind them.
    """

    @property
    def weights(self) -> Weights: ...

    @property
    def targets(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def flipped(self) -> frozenset[str]: ...

    @property
    def width(self) -> int: ...

    @property
    def heads(self) -> tuple[int, int] | None: ...

    @property
    def ends(self) -> Ends: ...

    @property
    def head(self) -> LossHead: ...

    def blocks(self, slots: Mapping[str, Slot]) -> Sequence[DecoderBlock]:
        """Return the blocks in order.

        Args:
            slots: what the adapter has for each target.
        """
