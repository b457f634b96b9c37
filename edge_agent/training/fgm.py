"""Adversarial training on embeddings: the fast gradient method.

Miyato, Dai and Goodfellow, 2017, arXiv 1605.07725, section 3: r_adv = ε g / ||g||₂, with g the
gradient of a sequence's loss by all its embeddings together; the loss at the embeddings plus r_adv
is added to the loss at the embeddings themselves. r_adv is a constant: nothing is differentiated
through it. Here the embeddings are what enters the first block, so that ε means the same for
families that scale them; they are not normalised, since they are not trained.
"""

import torch


def perturbation(gradient: torch.Tensor, epsilon: float, front: int = 0) -> torch.Tensor:
    """Return r_adv for each sequence of a batch; of norm ε, or 0 where the gradient is.

    Args:
        gradient: (rows, positions, hidden), of any positive multiple of the loss.
        epsilon: the norm.
        front: positions of a soft prompt in front of each row, which stay as they are.
    """
    found = gradient.to(torch.float32, copy=True)
    found[:, :front] = 0
    norms = torch.linalg.vector_norm(found, dim=(1, 2), keepdim=True)
    return found.mul_(epsilon / norms.clamp_min(torch.finfo(torch.float32).tiny))
