"""A bound on the norm of all gradients together (Pascanu et al., 2013, arXiv 1211.5063)."""

from collections.abc import Iterable

import torch

#: As in torch's `clip_grad_norm_`: nothing is divided by zero.
_LEAST = 1e-6


def scale_of(parameters: Iterable[torch.Tensor], clip: float | None) -> float:
    """Return what every gradient is to be multiplied with, at most 1.

    Norms are taken tensor by tensor, and no gradient is copied: clipping needs no memory.

    Args:
        parameters: some may have no gradient.
        clip: the greatest norm that is let through; None: any.
    """
    if clip is None:
        return 1.0
    squares = torch.zeros(())
    for value in parameters:
        if value.grad is not None:
            norm = torch.linalg.vector_norm(value.grad, dtype=torch.float32)
            squares = squares + norm.square().cpu()
    return float(torch.clamp(clip / (squares.sqrt() + _LEAST), max=1.0))
