"""FedProx's pull towards the start (Li et al. 2020, arXiv 1812.06127, algorithm 2).

The device minimises F(w) + μ/2 ‖w − wᵗ‖², whose second part has the gradient μ (w − wᵗ).
"""

from collections.abc import Iterable

import torch


class Proximal:
    """The start of some parameters, and the gradient of the way from there.

    Args:
        parameters: float32, as they are before the first step.
        mu: μ; with 0 nothing is kept.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], mu: float) -> None:
        self._mu = mu
        self._pairs = [(value, value.detach().clone()) for value in parameters] if mu else []

    @torch.no_grad()
    def add(self) -> None:
        """Add the term's gradient to the gradients that are there."""
        for value, start in self._pairs:
            if value.grad is not None:
                value.grad.add_(value - start, alpha=self._mu)
