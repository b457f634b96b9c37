"""Next-token loss behind a soft prompt, without a whole batch of logits in memory.

The head is applied to a few hundred positions at a time and differentiated at once, so that
logits (positions x vocabulary) never set the peak. The sum of the parts is the usual loss exactly.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from edge_agent.loss import Loss
from edge_agent.training.fgm import perturbation
from wire.labels import IGNORED

#: Positions times vocabulary of one piece; 4 MiB in float32. The planner counts on it.
PIECE_LOGITS = 2**20


def evaluate_loss(
    model: Any, prompt: torch.Tensor | None, ids: torch.Tensor, labels: torch.Tensor
) -> Loss:
    """Return the loss of a batch; nothing is kept for a backward pass.

    Args:
        model: a causal language model of transformers.
        prompt: (tokens, hidden) embeddings in front of each row, or None.
        ids: (rows, tokens).
        labels: (rows, tokens), `IGNORED` where no loss is taken. The first token is never
            predicted, with a soft prompt or without, so that both are means over the same tokens.
    """
    with torch.no_grad():
        embedded = model.get_input_embeddings()(ids)
        states, wanted = _predicting(model, prompt, embedded, labels)
        total = 0.0
        for at in _pieces(model, len(wanted)):
            total += float(_head_loss(model, states[at], wanted[at]))
    return Loss(total, len(wanted))


def backward_loss(
    model: Any,
    prompt: torch.Tensor | None,
    ids: torch.Tensor,
    labels: torch.Tensor,
    tokens: int | None = None,
    *,
    epsilon: float = 0.0,
) -> Loss:
    """Add the gradient of a batch's mean loss per token to whatever requires one.

    Args:
        model, prompt, ids, labels: as for `evaluate_loss`.
        tokens: that the mean is over, where these rows are part of a larger batch.
        epsilon: above 0, the gradient at adversarial embeddings is added (`fgm`).

    Returns:
        The loss's sum over the batch, as `evaluate_loss`.
    """
    looked_up = model.get_input_embeddings()(ids)  # (rows, tokens, hidden)
    embedded = looked_up.detach().requires_grad_(epsilon > 0 or looked_up.requires_grad)
    loss = _backward(model, prompt, embedded, labels, tokens)
    gradient = embedded.grad
    if epsilon > 0 and gradient is not None:
        moved = perturbation(gradient, epsilon).to(embedded.dtype).add_(embedded.detach())
        moved.requires_grad_(looked_up.requires_grad)
        _backward(model, prompt, moved, labels, tokens)
        gradient = gradient if moved.grad is None else gradient + moved.grad
    if looked_up.requires_grad:  # where the embeddings are trained, too
        torch.autograd.backward(looked_up, gradient)
    return loss


def _backward(
    model: Any,
    prompt: torch.Tensor | None,
    embedded: torch.Tensor,
    labels: torch.Tensor,
    tokens: int | None,
) -> Loss:
    states, wanted = _predicting(model, prompt, embedded, labels)
    gradient = torch.zeros_like(states)
    total = 0.0
    for at in _pieces(model, len(wanted)):
        piece = states[at].detach().requires_grad_(True)
        loss = _head_loss(model, piece, wanted[at])
        torch.autograd.backward(loss / (tokens or len(wanted)))
        if piece.grad is not None:
            gradient[at] = piece.grad
        total += float(loss.detach())
        del piece, loss
    torch.autograd.backward(states, gradient)
    return Loss(total, len(wanted))


def _predicting(
    model: Any, prompt: torch.Tensor | None, embedded: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the final states (n, hidden) that predict a token, and those tokens (n,)."""
    front = 0
    if prompt is not None:
        front = len(prompt)
        before = prompt.to(embedded.dtype).expand(len(labels), -1, -1)
        embedded = torch.cat([before, embedded], dim=1)
    decoder = getattr(model, model.base_model_prefix)
    states = decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
    rows, places = torch.nonzero(labels[:, 1:] != IGNORED, as_tuple=True)
    return states[rows, places + front], labels[rows, places + 1]


def _pieces(model: Any, positions: int) -> list[slice]:
    size = max(1, PIECE_LOGITS // model.config.vocab_size)
    return [slice(at, at + size) for at in range(0, positions, size)]


def _head_loss(model: Any, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    logits = model.get_output_embeddings()(states).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:  # Gemma 2, arXiv 2408.00118, section 2
        logits = torch.tanh(logits / cap) * cap
    return cross_entropy(logits, wanted, reduction="sum")
