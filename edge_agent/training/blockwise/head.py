"""Next-token loss over a vocabulary that is read in pieces, and its gradient in the same pass.

The softmax's denominator runs along with the pieces, as in FlashAttention (arXiv 2205.14135,
section 3.1): whenever a piece holds a greater logit, what was summed is scaled down. So neither all
logits nor the whole head is ever in memory, and the head is read once a step.
"""

from collections.abc import Iterator

import torch

from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.linear import spans

#: Logits that are in memory at once, in numbers. The planner counts on it.
PIECE_LOGITS = 2**20
#: Fewer rows of the head at once would only cost time.
LEAST_ROWS = 256


class Head:
    """The model's last matrix: logits are scale * (W x + bias), then perhaps capped.

    Args:
        weights: the base's file.
        name: of the matrix, which may be the embedding's.
        cap: logits are capped softly at this (Gemma 2), or None.
        scale: factor on all logits (Cohere, Granite).
        bias: (vocabulary,) float32, or None.
    """

    def __init__(
        self,
        weights: Weights,
        name: str,
        *,
        cap: float | None = None,
        scale: float = 1.0,
        bias: torch.Tensor | None = None,
    ) -> None:
        self._weights = weights
        self.name = name
        self._cap = cap
        self._scale = scale
        self._bias = bias

    def loss(
        self, states: torch.Tensor, wanted: torch.Tensor, *, with_gradient: bool
    ) -> tuple[float, torch.Tensor | None]:
        """Return the loss's sum, and the gradient of its mean.

        Args:
            states: (n, hidden) after the last norm.
            wanted: (n,) token ids.
            with_gradient: False for the loss alone.

        Returns:
            Σ -log p(wanted), and d mean / d states, (n, hidden) in the states' type, or None.
        """
        count = len(states)
        if count == 0:
            return 0.0, torch.zeros_like(states) if with_gradient else None
        greatest = states.new_full((count, 1), float("-inf"), dtype=torch.float32)
        total = torch.zeros_like(greatest)  # Σ exp(logit - greatest)
        gradient = states.new_zeros(states.shape, dtype=torch.float32) if with_gradient else None
        for ids, piece in self._pieces(count, states.device):
            logits = (states @ piece.T).float()  # (n, rows)
            slope = self._bent(logits, ids)
            most = torch.maximum(greatest, logits.amax(1, keepdim=True))
            shrink = torch.exp(greatest - most)
            share = logits.sub_(most).exp_()
            total.mul_(shrink).add_(share.sum(1, keepdim=True))
            if gradient is not None:
                share = share if slope is None else share.mul_(slope)
                gradient.mul_(shrink).add_(share.to(states.dtype) @ piece)
            greatest = most
        rows = self._weights.rows(self.name, wanted.cpu()).to(states.device)  # (n, hidden)
        right = (states.float() * rows.float()).sum(1, keepdim=True)
        slope = self._bent(right, wanted[:, None])
        loss = float((greatest + total.log() - right).sum())
        if gradient is None:
            return loss, None
        gradient.div_(total)
        gradient.sub_(rows if slope is None else rows * slope)
        return loss, gradient.mul_(self._scale / count).to(states.dtype)

    def _pieces(self, count: int, device: torch.device) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows of the matrix: which, and (rows, hidden)."""
        step = max(LEAST_ROWS, PIECE_LOGITS // count)
        for rows, span in spans(self._weights, self.name):
            for start in range(0, len(span), step):
                piece = span[start : start + step].to(device)
                first = rows.start + start
                yield slice(first, first + len(piece)), piece

    def _bent(self, logits: torch.Tensor, ids: slice | torch.Tensor) -> torch.Tensor | None:
        """Add the bias of some tokens, scale and cap in place; return the cap's slope, if any."""
        if self._bias is not None:
            logits.add_(self._bias[ids])
        if self._scale != 1.0:
            logits.mul_(self._scale)
        if self._cap is None:
            return None
        bent = logits.div_(self._cap).tanh_()
        slope = 1 - bent.square()
        logits.mul_(self._cap)
        return slope
