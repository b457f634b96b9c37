"""A model's ``config.json`` as GGUF metadata: what `wire.gguf_config` reads back.

What each family writes is what convert_hf_to_gguf.py writes in
https://github.com/ggml-org/llama.cpp, and llama.cpp's loader reads (src/models).
"""

from collections.abc import Mapping
from typing import Any

from wire.config_keys import number
from wire.errors import MalformedError
from wire.messages.plan import ModelShape
from wire.shape import shape_of

#: By ``model_type``.
ARCHITECTURES = {
    "gemma2": "gemma2",
    "llama": "llama",
    "mistral": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
#: llama.cpp knows Gemma 2 27B, whose queries are scaled otherwise, by its number of blocks.
_GEMMA_27B_LAYERS = 46
#: Where the heads together must be as wide as the model.
_NARROW = ("phi3", "qwen2")


def architecture_of(config: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of a model's architecture.

    Raises:
        MalformedError: it isn't one that is exported.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        raise MalformedError(
            f"model_type is {str(family)[:100]!r}; exported to GGUF are {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[family]


def keys_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's sizes and switches, without the architecture's prefix and without rotation.

    Raises:
        MalformedError: a key is missing or impossible, or llama.cpp computes something else.
    """
    architecture, family = architecture_of(config), str(config["model_type"])
    shape = shape_of(config, 2)
    if family in _NARROW and shape.heads * shape.head_dim != shape.hidden_size:
        raise MalformedError(
            f"{shape.heads} heads of {shape.head_dim} are not hidden_size {shape.hidden_size}, as "
            f"llama.cpp takes for granted in {architecture}."
        )
    wanted = "gelu_pytorch_tanh" if family == "gemma2" else "silu"
    activation = config.get("hidden_activation" if family == "gemma2" else "hidden_act") or wanted
    if activation != wanted:
        raise MalformedError(
            f"the activation is {str(activation)[:100]!r}; llama.cpp has {wanted} for {family}."
        )
    context = number(config, "max_position_embeddings")
    window, held = _window(config, family)
    keys: dict[str, Any] = {
        "block_count": shape.layers,
        # Past a window that llama.cpp doesn't keep, it would be another model.
        "context_length": context if held or window is None else min(context, window),
        "embedding_length": shape.hidden_size,
        "feed_forward_length": shape.mlp_size,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.layer_norm_rms_epsilon": _epsilon(config, family),
        "vocab_size": shape.vocab_size,
    }
    if family == "phi3" or window is not None:
        keys["attention.sliding_window"] = window or 0  # 0 tells Phi-4 from the others
    if family == "gemma2":
        keys |= _gemma2(config, shape)
    return keys


def _epsilon(config: Mapping[str, Any], family: str) -> float:
    value = config.get("rms_norm_eps", 1e-5 if family == "phi3" else 1e-6)
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise MalformedError(f"rms_norm_eps is {value!r}; must be a small number above 0.")
    return float(value)


def _window(config: Mapping[str, Any], family: str) -> tuple[int | None, bool]:
    """Return how many positions attention looks back, and whether llama.cpp holds to it."""
    default = 4096 if family in ("gemma2", "mistral") else None
    window = config.get("sliding_window", default)
    slides = family in ("gemma2", "mistral", "phi3")
    slides = slides or (family in ("qwen2", "qwen3") and config.get("use_sliding_window") is True)
    if not slides or window is None:
        return None, True
    if type(window) is not int or window < 1:
        raise MalformedError(f"sliding_window is {window!r}; must be a whole number above 0.")
    return window, family == "gemma2"


def _gemma2(config: Mapping[str, Any], shape: ModelShape) -> dict[str, Any]:
    large = shape.layers == _GEMMA_27B_LAYERS
    assumed = shape.hidden_size // shape.heads if large else shape.head_dim
    scalar = config.get("query_pre_attn_scalar", 256)
    if scalar != assumed:
        raise MalformedError(
            f"query_pre_attn_scalar is {scalar!r}; llama.cpp takes {assumed} for a Gemma 2 of "
            f"{shape.layers} blocks."
        )
    types = config.get("layer_types")
    alternating = [
        "full_attention" if at % 2 else "sliding_attention" for at in range(shape.layers)
    ]
    if types is not None and types != alternating:
        raise MalformedError("layer_types is not sliding and full in turn, as llama.cpp has it.")
    caps = {
        key: config.get(key, default)
        for key, default in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0))
    }
    for key, cap in caps.items():
        if not isinstance(cap, int | float) or cap <= 0:
            raise MalformedError(f"{key} is {cap!r}; llama.cpp always caps Gemma 2.")
    return {key: float(cap) for key, cap in caps.items()}
