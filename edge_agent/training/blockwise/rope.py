"""Rotary position embeddings (Su et al., 2021, arXiv 2104.09864) and the ways to stretch them.

linear (https://kaiokendev.github.io/til), llama3 (the Llama 3.1 model card's scaling), yarn
(arXiv 2309.00071), longrope (arXiv 2402.13753).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from edge_agent.errors import ModelError
from wire.rope_parameters import rope_parameters


class Rope:
    """Cosines and sines for positions, computed once for the longest row so far.

    Args:
        config: the parsed ``config.json``.
        head_dim: of a head.
    """

    def __init__(self, config: Mapping[str, Any], head_dim: int) -> None:
        self._config = config
        self._parameters = rope_parameters(config)
        share = float(self._parameters.get("partial_rotary_factor", 1.0))
        self._dim = int(head_dim * share)
        self._cached: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self, positions: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, each (positions, rotated size of a head)."""
        known = self._cached
        if known is None or len(known[0]) < positions or known[0].dtype != dtype:
            frequencies, scale = self._frequencies(positions)
            angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
            angles = torch.cat([angles, angles], dim=-1)
            known = (
                (angles.cos() * scale).to(device, dtype),
                (angles.sin() * scale).to(device, dtype),
            )
            self._cached = known
        return known[0][:positions], known[1][:positions]

    def _frequencies(self, positions: int) -> tuple[torch.Tensor, float]:
        """Return the angle a position adds in each pair of dimensions, and a factor on both."""
        parameters = self._parameters
        base = float(parameters["rope_theta"])
        exponents = torch.arange(0, self._dim, 2, dtype=torch.float32) / self._dim
        plain = 1.0 / base**exponents
        kind = parameters["rope_type"]
        if kind == "default":
            return plain, 1.0
        if kind == "linear":
            return plain / float(parameters["factor"]), 1.0
        if kind == "llama3":
            return _llama3(plain, parameters, self._original()), 1.0
        if kind == "yarn":
            return _yarn(plain, parameters, self._original(), self._factor())
        if kind == "longrope":
            return self._longrope(plain, positions)
        raise ModelError(
            f"rope_type is {kind!r}; known are default, linear, llama3, yarn and longrope."
        )

    def _original(self) -> int:
        return int(
            self._parameters.get("original_max_position_embeddings")
            or self._config.get("original_max_position_embeddings")
            or self._config.get("max_position_embeddings", 2048)
        )

    def _factor(self) -> float:
        given = self._parameters.get("factor")
        if given is not None:
            return float(given)
        return float(self._config.get("max_position_embeddings", 2048)) / self._original()

    def _longrope(self, plain: torch.Tensor, positions: int) -> tuple[torch.Tensor, float]:
        original, factor = self._original(), self._factor()
        which = "long_factor" if positions > original else "short_factor"
        stretch = torch.tensor(self._parameters[which], dtype=torch.float32)
        scale = self._parameters.get("attention_factor")
        if scale is None:
            scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
        return plain / stretch, float(scale)


def _llama3(plain: torch.Tensor, parameters: Mapping[str, Any], original: int) -> torch.Tensor:
    factor = float(parameters["factor"])
    low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
    length = 2 * math.pi / plain  # positions that a full turn takes
    smooth = ((original / length - low) / (high - low)).clamp(0.0, 1.0)
    return plain * (smooth + (1 - smooth) / factor)


def _yarn(
    plain: torch.Tensor,
    parameters: Mapping[str, Any],
    original: int,
    factor: float,
) -> tuple[torch.Tensor, float]:
    base, dim = float(parameters["rope_theta"]), 2 * len(plain)

    def turning(turns: float) -> float:
        """Return the dimension that makes so many turns within the original length."""
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    def growth(scale: float, weight: float = 1.0) -> float:
        return 1.0 if scale <= 1 else 0.1 * weight * math.log(scale) + 1.0

    low = turning(float(parameters.get("beta_fast") or 32))
    high = turning(float(parameters.get("beta_slow") or 1))
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    scale = parameters.get("attention_factor")
    if scale is None:
        m, all_dim = parameters.get("mscale"), parameters.get("mscale_all_dim")
        scale = growth(factor, m) / growth(factor, all_dim) if m and all_dim else growth(factor)
    return plain * (1 - ramp) + plain / factor * ramp, float(scale)


def rotated(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Return queries or keys (rows, heads, tokens, size), turned by their positions."""
    size = cosines.shape[-1]
    turned, kept = x[..., :size], x[..., size:]
    half = size // 2
    swapped = torch.cat([-turned[..., half:], turned[..., :half]], dim=-1)
    turned = turned * cosines + swapped * sines
    return turned if kept.shape[-1] == 0 else torch.cat([turned, kept], dim=-1)
