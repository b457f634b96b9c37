"""Rotary position embeddings in llama.cpp's words: keys, and factors as tensors.

Source: convert_hf_to_gguf.py and llama-context.cpp in https://github.com/ggml-org/llama.cpp; the
ways to stretch are explained in its rope functions and in transformers' modeling_rope_utils.py.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.config_keys import number
from wire.errors import MalformedError
from wire.rope_parameters import rope_parameters

Array = NDArray[np.float32]

#: The architectures for which llama.cpp reads factors for each frequency.
_BAKED = ("llama",)
_LONG = ("llama", "phi3")


def rope_of(
    config: Mapping[str, Any], architecture: str, head_dim: int
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return keys without the architecture's prefix, and tensors by name.

    Args:
        config: the parsed ``config.json``.
        architecture: llama.cpp's name of it.
        head_dim: of a head.

    Raises:
        MalformedError: llama.cpp can't turn positions as this model does.
    """
    parameters = rope_parameters(config)
    dimensions = int(head_dim * _number(parameters, "partial_rotary_factor"))
    if dimensions != head_dim and architecture != "phi3":
        raise MalformedError(
            f"partial_rotary_factor is {parameters['partial_rotary_factor']}; llama.cpp turns "
            f"whole heads in {architecture}."
        )
    keys: dict[str, Any] = {
        "rope.dimension_count": dimensions,
        "rope.freq_base": _number(parameters, "rope_theta"),
    }
    kind = parameters["rope_type"]
    if kind == "default":
        return keys, {}
    if kind == "linear":
        factor = _number(parameters, "factor")
        return keys | {"rope.scaling.type": kind, "rope.scaling.factor": factor}, {}
    if kind == "yarn":
        return keys | _yarn(parameters, config), {}
    if kind == "llama3" and architecture in _BAKED:
        return keys, {"rope_freqs.weight": _llama3(parameters, config, dimensions)}
    if kind == "longrope" and architecture in _LONG:
        added, factors = _longrope(parameters, config, dimensions)
        return keys | added, factors
    raise MalformedError(
        f"rope_type is {kind!r}; llama.cpp has linear and yarn for {architecture}"
        + (", llama3" if architecture in _BAKED else "")
        + (", longrope" if architecture in _LONG else "")
        + "."
    )


def _number(parameters: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value: Any = default if parameters.get(key) is None else parameters[key]
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise MalformedError(f"rope_parameters.{key} is {value!r}; must be a number above 0.")
    return float(value)


def _original(parameters: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    key = "original_max_position_embeddings"
    found = {key: parameters.get(key) or config.get(key) or config.get("max_position_embeddings")}
    return int(_number(found, key))


def _stretch(parameters: Mapping[str, Any], config: Mapping[str, Any], original: int) -> float:
    return _number(parameters, "factor", number(config, "max_position_embeddings") / original)


def _yarn(parameters: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Peng et al. 2023, arXiv 2309.00071."""
    if not parameters.get("truncate", True):
        raise MalformedError("yarn's truncate is false; llama.cpp always truncates.")
    original = _original(parameters, config)
    factor = _stretch(parameters, config, original)

    def growth(weight: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    keys: dict[str, Any] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }
    for name in ("beta_fast", "beta_slow"):
        if parameters.get(name):
            keys[f"rope.scaling.yarn_{name}"] = _number(parameters, name)
    scale = None
    if parameters.get("attention_factor") is not None:
        scale = _number(parameters, "attention_factor")
    elif parameters.get("mscale") and parameters.get("mscale_all_dim"):
        both = (growth(_number(parameters, key)) for key in ("mscale", "mscale_all_dim"))
        scale = next(both) / next(both)
    if scale is not None:
        # llama.cpp puts it on top of YaRN's own growth; transformers in its place.
        keys["rope.scaling.attn_factor"] = scale / growth()
    return keys


def _llama3(parameters: Mapping[str, Any], config: Mapping[str, Any], dimensions: int) -> Array:
    """Return by how much each frequency is divided (the Llama 3.1 model card's scaling)."""
    original, factor = _original(parameters, config), _number(parameters, "factor")
    low, high = (_number(parameters, f"{end}_freq_factor") for end in ("low", "high"))
    exponents = np.arange(0, dimensions, 2) / dimensions
    lengths = 2 * math.pi * float(parameters["rope_theta"]) ** exponents  # of a full turn
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    return (1 / (smooth + (1 - smooth) / factor)).astype(np.float32)


def _longrope(
    parameters: Mapping[str, Any], config: Mapping[str, Any], dimensions: int
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Ding et al. 2024, arXiv 2402.13753."""
    original = _original(parameters, config)
    factor = _stretch(parameters, config, original)
    growth = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    factors = {}
    for name in ("long", "short"):
        values = parameters.get(f"{name}_factor")
        if not isinstance(values, list) or len(values) != dimensions // 2:
            raise MalformedError(
                f"rope_parameters.{name}_factor must be a list of {dimensions // 2} numbers."
            )
        numbers = [_number({name: value}, name) for value in values]
        factors[f"rope_factors_{name}.weight"] = np.array(numbers, dtype=np.float32)
    keys = {
        "rope.scaling.type": "longrope",
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": _number(parameters, "attention_factor", growth),
    }
    return keys, factors
