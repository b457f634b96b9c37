"""Forward and backward through all blocks, one at a time.

The forward pass keeps each block's input and nothing else; the backward pass computes a block again
and goes through it at once (Chen et al., 2016, arXiv 1604.06174; MeBP, arXiv 2510.03425). The last
block is gone through once only, since its backward pass comes next.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from edge_agent.training.blockwise.architecture import DecoderBlock, Ends, LossHead
from edge_agent.training.blockwise.operations import begin_backward
from edge_agent.training.contract import Loss
from edge_agent.training.tokens import IGNORED


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
    ) -> Loss:
        """Add the gradient of a batch's mean loss per token to whatever requires one.

        Args:
            ids, labels, prompt: as for `evaluate`.
            tokens: that the mean is over, where these rows are part of a larger batch.
        """
        places, wanted = self._predicting(labels, prompt)
        aim = _Aim(len(ids), places, wanted, tokens or len(wanted))
        with torch.enable_grad():
            first = self._ends.enter(ids, prompt)
        inputs: list[torch.Tensor] = []
        x = first.detach()
        with torch.no_grad():
            for index, block in enumerate(self._blocks[:-1]):
                self._ahead(index + 1)
                inputs.append(x)
                x = _sum(block(x, len(ids)))
        loss, gradient = self._last(x, first, aim)
        del x  # the last block's input is done with
        for index in range(len(inputs) - 1, -1, -1):
            self._ahead(index - 1)
            gradient = self._again(index, inputs.pop(), first, gradient, len(ids))
        if first.requires_grad and gradient is not None:
            begin_backward(first, gradient).backward()  # type: ignore[no-untyped-call]
        return loss

    def _last(
        self, x: torch.Tensor, first: torch.Tensor, aim: _Aim
    ) -> tuple[Loss, torch.Tensor | None]:
        """Go through the last block and the head, both ways."""
        leaf = x.detach().requires_grad_(self._passes_on(len(self._blocks) - 1, first))
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
        first: torch.Tensor,
        gradient: torch.Tensor | None,
        rows: int,
    ) -> torch.Tensor | None:
        """Compute a block again and go back through it; return its input's gradient."""
        leaf = x.detach().requires_grad_(self._passes_on(index, first))
        with torch.enable_grad():
            outputs = self._blocks[index](leaf, rows, needed=False)
        if gradient is None:
            return None
        roots = [begin_backward(output, gradient) for output in outputs if output.requires_grad]
        del outputs
        if roots:
            torch.stack(roots).sum().backward()  # type: ignore[no-untyped-call]
        return leaf.grad

    def _passes_on(self, index: int, first: torch.Tensor) -> bool:
        """Whether a block's input needs a gradient: not the first one's, without a prompt."""
        return index > 0 or first.requires_grad

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
