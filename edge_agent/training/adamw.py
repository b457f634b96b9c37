"""AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), in place.

`torch.optim` imports torch's compiler at its first step, some 100 MB that a small device would
carry for five lines of arithmetic.
"""

from collections.abc import Iterable

import torch

from edge_agent.training.clipping import scale_of


class AdamW:
    """The optimiser's state for some parameters.

    Args:
        parameters: float32, each with a gradient at every `step`, which may be narrower.
        weight_decay: λ, decoupled from the gradient.
        betas: β₁ and β₂.
        epsilon: ε.

    Attributes:
        steps: how many were taken: t of the paper.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(value) for value in self._parameters]
        self._second = [torch.zeros_like(value) for value in self._parameters]
        self._weight_decay = weight_decay
        self._betas = betas
        self._epsilon = epsilon
        self.steps = 0

    def state(self) -> list[dict[str, torch.Tensor]]:
        """Return m and v of each parameter, in their order; whoever changes them changes these."""
        pairs = zip(self._first, self._second, strict=True)
        return [{"first": first, "second": second} for first, second in pairs]

    @torch.no_grad()
    def step(self, lr: float, clip: float | None) -> None:
        """Apply the gradients and drop them.

        Args:
            lr: α η_t of the paper.
            clip: the greatest norm of all gradients together; larger ones are scaled down to it.
                None: as large as they are.
        """
        scale = scale_of(self._parameters, clip)
        self.steps += 1
        beta1, beta2 = self._betas
        bias1, bias2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        for value, first, second in zip(self._parameters, self._first, self._second, strict=True):
            if value.grad is None:
                continue
            gradient = value.grad.to(value.dtype).mul_(scale)
            value.mul_(1 - lr * self._weight_decay)
            first.lerp_(gradient, 1 - beta1)
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            value.addcdiv_(first, (second / bias2).sqrt_().add_(self._epsilon), value=-lr / bias1)
            value.grad = None
