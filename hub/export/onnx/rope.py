"""By which angle each position turns a pair of a head's numbers (Su et al. 2021, arXiv 2104.09864).

The ways to stretch them: linear, llama3 (the Llama 3.1 model card), yarn (arXiv 2309.00071) and
longrope (arXiv 2402.13753), as transformers' modeling_rope_utils.py computes them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError
from wire.rope_parameters import rope_parameters

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Turns:
    """Angles of a model.

    Attributes:
        angles: that a position adds, (pairs,); the first 2 * pairs numbers of a head are turned.
        scale: factor on cosines and sines.
        long: angles in place of those where a text is longer than ``original`` (LongRoPE).
        original: positions up to which the short ones are used.
    """

    angles: Array
    scale: float = 1.0
    long: Array | None = None
    original: int = 0


def turns_of(config: Mapping[str, Any], head_dim: int) -> Turns:
    """Return the angles of a model.

    Args:
        config: the parsed ``config.json``.
        head_dim: of a head.

    Raises:
        MalformedError: the kind isn't known, or a number is missing or impossible.
    """
    parameters = rope_parameters(config)
    size = int(head_dim * _number(parameters, "partial_rotary_factor"))
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    base = _number(parameters, "rope_theta")
    plain = (1.0 / np.float32(base) ** exponents).astype(np.float32)
    kind = parameters["rope_type"]
    if kind == "default":
        return Turns(plain)
    if kind == "linear":
        return Turns(plain / np.float32(_number(parameters, "factor")))
    if kind == "llama3":
        return Turns(_llama3(plain, parameters, _original(parameters, config)))
    if kind == "yarn":
        return _yarn(plain, parameters, config, base)
    if kind == "longrope":
        return _longrope(plain, parameters, config)
    raise MalformedError(
        f"rope_type is {str(kind)[:100]!r}; exported to ONNX are default, linear, llama3, yarn and "
        "longrope."
    )


def _number(parameters: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value: Any = default if parameters.get(key) is None else parameters[key]
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise MalformedError(f"rope_parameters.{key} is {value!r}; must be a number above 0.")
    return float(value)


def _original(parameters: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    key = "original_max_position_embeddings"
    found = parameters.get(key) or config.get(key) or config.get("max_position_embeddings", 2048)
    return int(_number({key: found}, key))


def _stretch(parameters: Mapping[str, Any], config: Mapping[str, Any], original: int) -> float:
    longest = float(config.get("max_position_embeddings") or 2048)
    return _number(parameters, "factor", longest / original)


def _llama3(plain: Array, parameters: Mapping[str, Any], original: int) -> Array:
    factor = _number(parameters, "factor")
    low, high = (_number(parameters, f"{end}_freq_factor") for end in ("low", "high"))
    lengths = 2 * math.pi / plain  # positions that a full turn takes
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    return (plain * (smooth + (1 - smooth) / factor)).astype(np.float32)


def _yarn(
    plain: Array, parameters: Mapping[str, Any], config: Mapping[str, Any], base: float
) -> Turns:
    original = _original(parameters, config)
    factor, size = _stretch(parameters, config, original), 2 * len(plain)

    def turning(turns: float) -> float:
        """Return the dimension that makes so many turns within the original length."""
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    def growth(weight: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    low = turning(_number(parameters, "beta_fast", 32.0))
    high = turning(_number(parameters, "beta_slow", 1.0))
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(len(plain), dtype=np.float32) - low) / (high - low), 0.0, 1.0)
    if parameters.get("attention_factor") is not None:
        scale = _number(parameters, "attention_factor")
    elif parameters.get("mscale") and parameters.get("mscale_all_dim"):
        both = (growth(_number(parameters, key)) for key in ("mscale", "mscale_all_dim"))
        scale = next(both) / next(both)
    else:
        scale = growth()
    angles = plain * (1 - ramp) + plain / np.float32(factor) * ramp
    return Turns(angles.astype(np.float32), scale)


def _longrope(plain: Array, parameters: Mapping[str, Any], config: Mapping[str, Any]) -> Turns:
    original = _original(parameters, config)
    factor = _stretch(parameters, config, original)
    growth = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    angles = {}
    for name in ("short", "long"):
        values = parameters.get(f"{name}_factor")
        if not isinstance(values, list) or len(values) != len(plain):
            raise MalformedError(
                f"rope_parameters.{name}_factor must be a list of {len(plain)} numbers."
            )
        stretch = np.array([_number({name: value}, name) for value in values], dtype=np.float32)
        angles[name] = plain / stretch
    scale = _number(parameters, "attention_factor", growth)
    return Turns(angles["short"], scale, angles["long"], original)
