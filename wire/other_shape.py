"""The shape of a decoder of any family, read as a Llama's: near enough to plan by.

The families' own code, in transformers, says more; but whoever plans doesn't import it. Where the
configuration leaves something open, the larger reading is taken: two tables of embeddings, and MLPs
with a gate.
"""

from collections.abc import Mapping
from typing import Any

from wire.config_keys import flag, number
from wire.errors import MalformedError
from wire.messages.plan import ModelShape

#: What other families call Llama's keys.
_NAMES = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
}
_EXPERTS = ("moe_num_experts", "n_routed_experts", "num_experts", "num_local_experts")
#: Families that write ``intermediate_size`` and have no gate.
_PLAIN_MLP = frozenset({"arcee", "gpt_neox", "nemotron", "persimmon", "phi", "starcoder2"})


def other_shape(config: Mapping[str, Any], weight_bytes: int) -> ModelShape:
    """Return about what a model's memory follows from.

    Args:
        config: the parsed ``config.json``.
        weight_bytes: bytes of one stored parameter.

    Raises:
        MalformedError: it is no decoder of attention and MLP, or a key is missing or impossible.
    """
    family = config.get("model_type")
    if not isinstance(family, str):
        raise MalformedError(f"model_type is {family!r}; must be the name of a family.")
    _check_kind(config, family)
    hidden, layers = _size(config, "hidden_size"), _size(config, "num_hidden_layers")
    heads = _size(config, "num_attention_heads")
    grouped = config.get("multi_query") is True and not config.get("new_decoder_architecture")
    kv_heads = 1 if grouped else _size(config, "num_key_value_heads", heads)
    head_dim = number(config, "head_dim", max(1, hidden // heads))
    mlp, vocab = _size(config, "intermediate_size", 4 * hidden), number(config, "vocab_size")
    tied = flag(config, "tie_word_embeddings", False)
    gated = config.get("intermediate_size") is not None and family not in _PLAIN_MLP
    block = 2 * hidden * (heads + kv_heads) * head_dim + (3 if gated else 2) * hidden * mlp
    return ModelShape(
        model_type=family,
        hidden_size=hidden,
        layers=layers,
        mlp_size=mlp,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        tied_embeddings=tied,
        parameters=vocab * hidden * (1 if tied else 2) + layers * (block + 2 * hidden) + hidden,
        weight_bytes=weight_bytes,
    )


def _check_kind(config: Mapping[str, Any], family: str) -> None:
    if config.get("is_encoder_decoder") is True:
        raise MalformedError(f"{family} is an encoder-decoder model; only decoders can be trained.")
    if "text_config" in config:
        raise MalformedError(f"{family} is more than a language model. Export its text model.")
    for key in _EXPERTS:
        count = config.get(key)
        if isinstance(count, int) and count > 1:
            raise MalformedError(f"{key} is {count}: mixtures of experts can't be trained.")
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        strange = sorted({str(kind) for kind in kinds if not _attends(kind)})
    else:
        strange = sorted(
            key for key in config if key.startswith("mamba_") or key.endswith("state_size")
        )
    if strange:
        raise MalformedError(
            f"{family} has {strange[0]}: only blocks of attention and MLP can be trained, none "
            "that carry a state from token to token."
        )


def _attends(kind: object) -> bool:
    return isinstance(kind, str) and kind.endswith("attention") and "linear" not in kind


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a size by Llama's name for it, or another family's."""
    for name in (key, *_NAMES[key]):
        if config.get(name) is not None:
            return number(config, name)
    return number(config, key, default)
