"""A base model with an adapter in place, however it is held in memory: what a task works with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.loss import Loss
from edge_agent.training.start import Start
from edge_agent.training.tokens import Encoder
from wire.trained_factors import Rest, Trains


@dataclass(frozen=True)
class Trained:
    """What a task trains; everything else of the adapter stays as it is, in place.

    Attributes:
        rank: leading LoRA components that are trained from where they are; 0 for none.
        core: side of the core matrix that is trained between frozen directions of each base
            matrix (LoRA-XS, arXiv 2405.17604); 0 for none.
        prompt: whether the soft prompt is trained.
        prefix: positions of a per-layer prefix (arXiv 2101.00190) that is trained; 0 for none.
        seed: fixes a fresh prefix.
        factors: which of the leading components' factors are trained; the others stay as they are.
            ``core``: neither, but a core between A's rows and directions of B's columns
            (`wire.core_directions`).
        rest: whether the components behind them are in place while these are trained. For
            evaluation they always are.
        full: whether all weights of the base are trained.
    """

    rank: int = 0
    core: int = 0
    prompt: bool = False
    prefix: int = 0
    seed: int = 0
    factors: Trains = "both"
    rest: Rest = "frozen"
    full: bool = False


class Placed(Protocol):
    """An adapter in a base model.

    Attributes:
        trained: float32 leaves that the optimiser moves, by names on the wire.
    """

    @property
    def trained(self) -> Mapping[str, torch.Tensor]: ...

    def evaluate_loss(self, ids: torch.Tensor, labels: torch.Tensor, variant: str) -> Loss:
        """Return the loss of a batch; nothing is kept for a backward pass.

        Args:
            ids: (rows, tokens) int64.
            labels: (rows, tokens), `IGNORED` where no loss is taken. The first token is never
                predicted, with a soft prompt or without, so that all variants are means over the
                same tokens.
            variant: of `edge_agent.training.measuring.VARIANTS`.
        """

    def backward_loss(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor,
        tokens: int | None = None,
        epsilon: float = 0.0,
    ) -> Loss:
        """Add the gradient of a batch's mean loss per token to the ``grad`` of what is trained.

        Args:
            ids: (rows, tokens) int64.
            labels: as for `evaluate_loss`.
            tokens: that the mean is over, where these rows are part of a larger batch.
            epsilon: above 0, the gradient at adversarial embeddings is added (`fgm`); what is
                returned is the loss without them.
        """

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return the difference to the start, by names on the wire."""

    def values(self) -> Mapping[str, NDArray[np.float32]]:
        """Return what was trained as it now is: LoRA factors (a core as factors, too), prompt.

        Of weights of the base that is how far they are from it.

        They are views, or made when they are asked for: nothing is held twice.
        """


class Base(Protocol):
    """A frozen base model that takes one adapter after the other.

    Attributes:
        encoder: text to token ids.
        targets: linear layers that LoRA may adapt, (out, in) by module path.
        hidden_size: width of an embedding.
    """

    hidden_size: int

    @property
    def targets(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def encoder(self) -> Encoder: ...

    def place(self, start: Start, trained: Trained) -> Placed:
        """Put an adapter in place of the one that was there.

        Raises:
            AdapterError: it does not fit the base or the request, or a file of it is broken.
        """

    def clear(self) -> None:
        """Take the adapter out."""

    def close(self) -> None:
        """Give up the model."""
