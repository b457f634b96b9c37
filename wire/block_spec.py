"""What a block of a known family computes, read from its configuration.

The rules are those of the families' modelling files in transformers; `tests` hold every one of them
against those files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wire.errors import MalformedError


@dataclass(frozen=True)
class Spec:
    """The numbers and switches of a model's blocks.

    Attributes:
        score_scale: factor on the products of queries and keys.
        activation: ``silu`` or ``gelu_tanh``.
        norm_offset: added to each norm's weight (Gemma stores weight - 1).
        sandwich: whether norms stand behind attention and MLP, too (Gemma 2).
        head_norms: whether queries and keys have norms of their own (Qwen3).
        fused: ``qkv_proj`` and ``gate_up_proj`` in place of five matrices (Phi-3).
        score_cap: attention scores are capped softly at this (Gemma 2).
        logit_cap: the same for logits.
        embed_scale: factor on embeddings.
        windows: of each block: how many positions attention looks back, itself included; None
            for all.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    eps: float
    score_scale: float
    activation: str
    norm_offset: float
    sandwich: bool
    head_norms: bool
    fused: bool
    score_cap: float | None
    logit_cap: float | None
    embed_scale: float
    windows: tuple[int | None, ...]


def spec_of(config: Mapping[str, Any]) -> Spec:
    """Return the spec of a model of a known family.

    Args:
        config: the parsed ``config.json``, whose sizes `wire.shape` has checked.

    Raises:
        MalformedError: something in it isn't known here.
    """
    family = str(config["model_type"])
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    default = {"gemma2": 256, "qwen3": 128}.get(family, hidden // heads)
    head_dim = int(config.get("head_dim") or default)
    layers = int(config["num_hidden_layers"])
    gemma = family == "gemma2"
    query_scalar = config.get("query_pre_attn_scalar") or 256
    return Spec(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        mlp=int(config["intermediate_size"]),
        vocab=int(config["vocab_size"]),
        eps=float(config.get("rms_norm_eps", 1e-5 if family == "phi3" else 1e-6)),
        score_scale=(query_scalar if gemma else head_dim) ** -0.5,
        activation=_activation(config, family),
        norm_offset=1.0 if gemma else 0.0,
        sandwich=gemma,
        head_norms=family == "qwen3",
        fused=family == "phi3",
        score_cap=_cap(config, "attn_logit_softcapping", 50.0) if gemma else None,
        logit_cap=_cap(config, "final_logit_softcapping", 30.0) if gemma else None,
        embed_scale=hidden**0.5 if gemma else 1.0,
        windows=_windows(config, family, layers),
    )


def _activation(config: Mapping[str, Any], family: str) -> str:
    key = "hidden_activation" if family == "gemma2" else "hidden_act"
    # Gemma 2's first configurations said "gelu" and meant the approximation.
    name = config.get(key) or ("gelu_pytorch_tanh" if family == "gemma2" else "silu")
    known = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
    if name not in known:
        raise MalformedError(f"{key} is {name!r}; known are {', '.join(known)}.")
    return known[name]


def _cap(config: Mapping[str, Any], key: str, default: float) -> float | None:
    value = config.get(key, default)
    return None if value is None else float(value)


def _windows(config: Mapping[str, Any], family: str, layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window", 4096 if family in ("gemma2", "mistral") else None)
    if family == "llama" or window is None:
        return (None,) * layers
    if family in ("mistral", "phi3"):
        return (int(window),) * layers
    types = config.get("layer_types")
    if family in ("qwen2", "qwen3"):
        if not config.get("use_sliding_window", False):
            return (None,) * layers
        first = int(config.get("max_window_layers", 28))
        slides = [index >= first for index in range(layers)]
    else:  # gemma2: every other block, the first one included
        slides = [index % 2 == 0 for index in range(layers)]
    if isinstance(types, list):
        if len(types) != layers:
            raise MalformedError(
                f"layer_types has {len(types)} entries; the model has {layers} blocks."
            )
        slides = [kind == "sliding_attention" for kind in types]
    return tuple(int(window) if slide else None for slide in slides)
