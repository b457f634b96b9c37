"""Forward and backward through all blocks, one at a time.

The forward pass keeps each block's input and nothing else; the backward pass computes a block again
and goes through it at once (Chen et al., 2016, arXiv 1604.06174; MeBP, arXiv 2510.03425). The last
block is gone through once only, since its backward pass comes next.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from edge_agent.loss import Loss
from edge_agent.training.blockwise.architecture import DecoderBlock, Ends, LossHead
from edge_agent.training.blockwise.operations import begin_backward
from edge_agent.training.fgm import perturbation
from wire.labels import IGNORED


class _Aim(NamedTuple):
    """What a batch's states are to predict.

    Attributes:
        rows: sequences.
        places: (n,) states of the last block that predict a token.
        wanted: (n,) those tokens.
        tokens: that the loss's mean is over.
    """

    rows: int
    places: torch.Tensor
    wanted: torch.Tensor
    tokens: int


class Passes:
    """A model's blocks between embedding and head.

    Args:
        ends: around the blocks.
        blocks: in order.
        head: behind them.
        device: where the arithmetic is done.
        ahead: told the matrices that are used next.
    """

    def __init__(
        self,
        ends: Ends,
        blocks: Sequence[DecoderBlock],
        head: LossHead,
        device: torch.device,
        ahead: Callable[[list[str]], None],
    ) -> None:
        self._ends = ends
        self._blocks = blocks
        self._head = head
        self._device = device
        self._tell = ahead

    @torch.no_grad()
    def evaluate(
        self, ids: torch.Tensor, labels: torch.Tensor, prompt: torch.Tensor | None
    ) -> Loss:
        """Return the loss of a batch.

        Args:
            ids: (rows, tokens) int64.
            labels: (rows, tokens), `IGNORED` where no loss is taken.
            prompt: (positions, hidden) in front of each row, or None.
        """
        x = self._ends.enter(ids, prompt)
        for index, block in enumerate(self._blocks):
            self._ahead(index + 1)
            x = _sum(block(x, len(ids)))
        places, wanted = self._predicting(labels, prompt)
        states = self._ends.leave(x, len(ids), places)
        total, _ = self._head.loss(states, wanted, with_gradient=False)
        return Loss(total, len(wanted))

    def backward(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor,
        prompt: torch.Tensor | None,
        tokens: int | None = None,
        epsilon: float = 0.0,
    ) -> Loss:
        """Add the gradient of a batch's mean loss per token to whatever requires one.

        Args:
            ids, labels, prompt: as for `evaluate`.
            tokens: that the mean is over, where these rows are part of a larger batch.
            epsilon: above 0, the gradient at adversarial embeddings is added
                (`edge_agent.training.fgm`).
        """
        places, wanted = self._predicting(labels, prompt)
        aim = _Aim(len(ids), places, wanted, tokens or len(wanted))
        with torch.enable_grad():
            first = self._ends.enter(ids, prompt)
        prompted = first.requires_grad
        if not epsilon:
            loss, gradient = self._through(first.detach(), aim, needed=prompted)
        else:
            front = 0 if prompt is None else len(prompt)
            loss, gradient = self._twice(first.detach(), aim, epsilon, front=front, needed=prompted)
        if prompted and gradient is not None:
            begin_backward(first, gradient).backward()  # type: ignore[no-untyped-call]
        return loss

    def _twice(
        self, x: torch.Tensor, aim: _Aim, epsilon: float, *, front: int, needed: bool
    ) -> tuple[Loss, torch.Tensor | None]:
        """Go through as it is, and moved against the model; as `_through`, of both together."""
        # A copy: blocks use their input's memory once they are done with it.
        loss, gradient = self._through(x.clone(), aim, needed=True)
        if gradient is None:  # nothing is trained
            return loss, None
        by_row = gradient.view(aim.rows, -1, gradient.shape[-1])
        moved = perturbation(by_row, epsilon, front).view_as(x).to(x.dtype).add_(x)
        if not needed:
            del gradient, by_row  # so that the second pass has their memory
            return loss, self._through(moved, aim, needed=False)[1]
        _, second = self._through(moved, aim, needed=True)
        return loss, gradient if second is None else gradient.add_(second)

    def _through(
        self, x: torch.Tensor, aim: _Aim, *, needed: bool
    ) -> tuple[Loss, torch.Tensor | None]:
        """Go through all blocks and the head, both ways.

        Args:
            x: the first block's input, without a graph.
            aim: what is to be predicted.
            needed: whether the input's gradient is wanted, which is then returned.
        """
        inputs: list[torch.Tensor] = []
        with torch.no_grad():
            for index, block in enumerate(self._blocks[:-1]):
                self._ahead(index + 1)
                inputs.append(x)
                x = _sum(block(x, aim.rows))
        loss, gradient = self._last(x, aim, needed)
        del x  # the last block's input is done with
        for index in range(len(inputs) - 1, -1, -1):
            self._ahead(index - 1)
            gradient = self._again(index, inputs.pop(), gradient, aim.rows, needed)
        return loss, gradient

    def _last(self, x: torch.Tensor, aim: _Aim, needed: bool) -> tuple[Loss, torch.Tensor | None]:
        """Go through the last block and the head, both ways."""
        leaf = x.detach().requires_grad_(needed or len(self._blocks) > 1)
        with torch.enable_grad():
            whole = _sum(self._blocks[-1](leaf, aim.rows))
            states = self._ends.leave(whole, aim.rows, aim.places)
            del whole
        total, gradient = self._head.loss(states.detach(), aim.wanted, with_gradient=True)
        if states.requires_grad and gradient is not None:
            if aim.tokens != len(aim.wanted):
                gradient.mul_(len(aim.wanted) / aim.tokens)
            root = begin_backward(states, gradient)
            del states, gradient  # what the graph needs of them goes as it is used
            root.backward()  # type: ignore[no-untyped-call]
        return Loss(total, len(aim.wanted)), leaf.grad

    def _again(
        self,
        index: int,
        x: torch.Tensor,
        gradient: torch.Tensor | None,
        rows: int,
        needed: bool,
    ) -> torch.Tensor | None:
        """Compute a block again and go back through it; return its input's gradient."""
        # The first block's input needs a gradient only where a prompt or an adversary wants it.
        leaf = x.detach().requires_grad_(needed or index > 0)
        with torch.enable_grad():
            outputs = self._blocks[index](leaf, rows, needed=False)
        if gradient is None:
            return None
        roots = [begin_backward(output, gradient) for output in outputs if output.requires_grad]
        del outputs
        if roots:
            torch.stack(roots).sum().backward()  # type: ignore[no-untyped-call]
        return leaf.grad

    def _predicting(
        self, labels: torch.Tensor, prompt: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positions (n,) whose states predict a token, and those tokens (n,)."""
        front = 0 if prompt is None else len(prompt)
        rows, places = torch.nonzero(labels[:, 1:] != IGNORED, as_tuple=True)
        flat = rows * (labels.shape[1] + front) + places + front
        return flat.to(self._device), labels[rows, places + 1].to(self._device)

    def _ahead(self, index: int) -> None:
        if 0 <= index < len(self._blocks):
            self._tell(self._blocks[index].names())


def _sum(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole
