"""Stochastic gradient descent with momentum (Sutskever et al., 2013, section 2), in place.

In torch's form: the learning rate is outside of the velocity, and weight decay is part of the
gradient, so that plain steps are steps on one objective.
"""

from collections.abc import Iterable

import torch

from edge_agent.training.clipping import scale_of


class SGD:
    """The optimiser's state for some parameters; without momentum there is none.

    Args:
        parameters: float32, each with a gradient at every `step`, which may be narrower.
        weight_decay: λ; λ times the parameter is added to its gradient.
        momentum: μ, from 0 to below 1.

    Attributes:
        steps: how many were taken.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], weight_decay: float, momentum: float = 0.0
    ) -> None:
        self._parameters = list(parameters)
        self._velocity = [torch.zeros_like(value) for value in self._parameters if momentum]
        self._weight_decay = weight_decay
        self._momentum = momentum
        self.steps = 0

    def state(self) -> list[dict[str, torch.Tensor]]:
        """Return what is kept of each parameter; whoever changes it changes this."""
        if not self._momentum:
            return [{} for _ in self._parameters]
        return [{"velocity": value} for value in self._velocity]

    @torch.no_grad()
    def step(self, lr: float, clip: float | None) -> None:
        """Apply the gradients and drop them.

        Args:
            lr: the step's learning rate.
            clip: the greatest norm of all gradients together, None for any.
        """
        scale = scale_of(self._parameters, clip)
        self.steps += 1
        for index, value in enumerate(self._parameters):
            if value.grad is None:
                continue
            gradient = value.grad.to(value.dtype).mul_(scale)
            if self._weight_decay:
                gradient.add_(value, alpha=self._weight_decay)
            if self._momentum:
                # From zero, so that the first velocity is the first gradient, as in torch.
                gradient = self._velocity[index].mul_(self._momentum).add_(gradient)
            value.sub_(gradient, alpha=lr)
            value.grad = None
