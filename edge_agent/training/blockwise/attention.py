"""Causal attention with grouped heads, sliding window, soft cap and per-layer prefix."""

import torch
from torch.nn.functional import scaled_dot_product_attention


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float,
    window: int | None,
    cap: float | None,
    prefix: int,
) -> torch.Tensor:
    """Return what each position gathers, (rows, heads, tokens, size).

    Args:
        q: (rows, heads, tokens, size).
        k: (rows, kv_heads, prefix + tokens, size).
        v: as k.
        scale: factor on the products of queries and keys.
        window: how many positions a token looks back, itself included; None for all.
        cap: scores are capped softly at this (Gemma 2, arXiv 2408.00118, section 2).
        prefix: positions in front of the tokens; to a window they are positions like others.
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = _repeated(k, groups), _repeated(v, groups)
    tokens = q.shape[2]
    narrow = window is not None and window < prefix + tokens
    if cap is None and not narrow and prefix == 0:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    seen = _seen(tokens, window, prefix, q.device)
    if cap is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale)
    scores = torch.tanh(q @ k.transpose(2, 3) * (scale / cap)) * cap
    scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v


def _repeated(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Return each key-value head once for every query head of its group."""
    rows, heads, tokens, size = x.shape
    wide = x[:, :, None].expand(rows, heads, groups, tokens, size)
    return wide.reshape(rows, heads * groups, tokens, size)


def _seen(tokens: int, window: int | None, prefix: int, device: torch.device) -> torch.Tensor:
    """Return which positions each token sees, (tokens, prefix + tokens) bool."""
    seen = torch.ones(tokens, prefix + tokens, dtype=torch.bool, device=device).tril_(prefix)
    return seen if window is None else seen.triu_(prefix + 1 - window)
