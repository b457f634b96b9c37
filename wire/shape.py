"""The shape of a decoder-only model, from its Hugging Face ``config.json`` alone.

Memory, adapters and manifests all follow from it, so neither hub nor supervisor needs torch to
reason about a model. The rules are those of the families' modelling files in transformers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wire.config_keys import flag, number
from wire.errors import MalformedError
from wire.messages.plan import ModelShape
from wire.other_shape import other_shape


@dataclass(frozen=True)
class _Family:
    """Where a family differs from Llama. ``None`` means that the config's own key decides."""

    qkv_bias: bool | None = False
    out_bias: bool | None = False
    mlp_bias: bool | None = False
    fused: bool = False  # qkv_proj and gate_up_proj in place of five matrices
    block_norms: int = 2
    head_norms: bool = False  # one more norm each on queries and keys
    head_dim: int | None = None  # default; None: hidden_size / heads
    tied: bool = False


_FAMILIES: dict[str, _Family] = {
    "gemma2": _Family(qkv_bias=None, out_bias=None, block_norms=4, head_dim=256, tied=True),
    "llama": _Family(qkv_bias=None, out_bias=None, mlp_bias=None),
    "mistral": _Family(),
    "phi3": _Family(fused=True),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(qkv_bias=None, out_bias=None, head_norms=True, head_dim=128),
}
#: Norms of a block; those that only some families have come last.
_BLOCK_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
#: Families whose every linear layer is known from the config alone; a hub's jobs take no others.
FAMILIES = tuple(sorted(_FAMILIES))


@dataclass(frozen=True)
class _Linear:
    """One linear layer of a block."""

    name: str  # within the block
    out: int
    inp: int
    bias: bool


def shape_of(config: Mapping[str, Any], weight_bytes: int) -> ModelShape:
    """Return the numbers from which a model's memory follows.

    They are exact for `FAMILIES`. Any other decoder is read as a Llama, see `other_shape`.

    Args:
        config: the parsed ``config.json``.
        weight_bytes: bytes of one stored parameter, 2 for bf16 and 4 for fp32.

    Raises:
        MalformedError: a key is missing or impossible, or the model is none that can be trained.
    """
    if config.get("model_type") not in FAMILIES:
        return other_shape(config, weight_bytes)
    family = _family(config)
    hidden, layers = number(config, "hidden_size"), number(config, "num_hidden_layers")
    heads, kv_heads, head_dim = _attention(config, family)
    vocab = number(config, "vocab_size")
    tied = flag(config, "tie_word_embeddings", family.tied)
    block = sum(
        linear.out * linear.inp + (linear.out if linear.bias else 0)
        for linear in _block(config, family)
    )
    block += family.block_norms * hidden + (2 * head_dim if family.head_norms else 0)
    embeddings = vocab * hidden * (1 if tied else 2)
    return ModelShape(
        model_type=str(config["model_type"]),
        hidden_size=hidden,
        layers=layers,
        mlp_size=number(config, "intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab,
        tied_embeddings=tied,
        parameters=embeddings + layers * block + hidden,  # the last norm's `hidden`
        weight_bytes=weight_bytes,
    )


def linear_shapes(shape: ModelShape) -> list[tuple[int, int]]:
    """Return (out, in) of each linear layer of a block, in the model's own order.

    Args:
        shape: of a known family; another one's layers are taken to be Llama's.
    """
    family = _FAMILIES.get(shape.model_type, _FAMILIES["llama"])
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, mlp = shape.hidden_size, shape.mlp_size
    if family.fused:
        return [(hidden, queries), (queries + 2 * keys, hidden), (2 * mlp, hidden), (hidden, mlp)]
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    return [*attention, (mlp, hidden), (mlp, hidden), (hidden, mlp)]


def target_modules(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return every linear layer of the blocks, which is what PEFT calls ``all-linear``.

    Returns:
        Full module path, like ``model.layers.0.self_attn.q_proj``, to (out, in), in the model's
        own order.

    Raises:
        MalformedError: an unknown family, or a key that is missing or impossible.
    """
    block = _block(config, _family(config))
    return {
        f"model.layers.{layer}.{linear.name}": (linear.out, linear.inp)
        for layer in range(number(config, "num_hidden_layers"))
        for linear in block
    }


def parameter_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a model, a tied head once, as its embeddings.

    Returns:
        Full name, like ``model.layers.0.mlp.up_proj.weight``, to (out, in) of a matrix, (size,) of
        a norm or a bias, (vocabulary, hidden) of embeddings and head.

    Raises:
        MalformedError: as `target_modules`.
    """
    family, block = _family(config), _block(config, _family(config))
    hidden, vocab = number(config, "hidden_size"), number(config, "vocab_size")
    _, _, head_dim = _attention(config, family)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(number(config, "num_hidden_layers")):
        path = f"model.layers.{layer}"
        for linear in block:
            shapes[f"{path}.{linear.name}.weight"] = (linear.out, linear.inp)
            if linear.bias:
                shapes[f"{path}.{linear.name}.bias"] = (linear.out,)
        if family.head_norms:
            for norm in ("q_norm", "k_norm"):
                shapes[f"{path}.self_attn.{norm}.weight"] = (head_dim,)
        for norm in _BLOCK_NORMS[: family.block_norms]:
            shapes[f"{path}.{norm}.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not flag(config, "tie_word_embeddings", family.tied):
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def _family(config: Mapping[str, Any]) -> _Family:
    model_type = config.get("model_type")
    family = _FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise MalformedError(
            f"model_type is {model_type!r}; a hub's jobs know {', '.join(FAMILIES)}. Use one of "
            "them, or train without a hub: `lorikeet-agent train` takes other decoders, too."
        )
    return family


def _attention(config: Mapping[str, Any], family: _Family) -> tuple[int, int, int]:
    """Return heads, key-value heads, and the size of one head."""
    heads = number(config, "num_attention_heads")
    kv_heads = number(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise MalformedError(
            f"num_key_value_heads is {kv_heads}; must divide num_attention_heads ({heads})."
        )
    hidden = number(config, "hidden_size")
    default = family.head_dim or hidden // heads
    return heads, kv_heads, number(config, "head_dim", default)


def _block(config: Mapping[str, Any], family: _Family) -> list[_Linear]:
    hidden, mlp = number(config, "hidden_size"), number(config, "intermediate_size")
    heads, kv_heads, head_dim = _attention(config, family)
    queries, keys = heads * head_dim, kv_heads * head_dim

    def bias(rule: bool | None, key: str) -> bool:
        return flag(config, key, False) if rule is None else rule

    qkv = bias(family.qkv_bias, "attention_bias")
    out = bias(family.out_bias, "attention_bias")
    feed = bias(family.mlp_bias, "mlp_bias")

    def linears() -> Iterator[_Linear]:
        if family.fused:
            # Phi-3 makes o_proj before qkv_proj; the order shows in every listing of its modules.
            yield _Linear("self_attn.o_proj", hidden, queries, out)
            yield _Linear("self_attn.qkv_proj", queries + 2 * keys, hidden, qkv)
            yield _Linear("mlp.gate_up_proj", 2 * mlp, hidden, feed)
        else:
            yield _Linear("self_attn.q_proj", queries, hidden, qkv)
            yield _Linear("self_attn.k_proj", keys, hidden, qkv)
            yield _Linear("self_attn.v_proj", keys, hidden, qkv)
            yield _Linear("self_attn.o_proj", hidden, queries, out)
            yield _Linear("mlp.gate_proj", mlp, hidden, feed)
            yield _Linear("mlp.up_proj", mlp, hidden, feed)
        yield _Linear("mlp.down_proj", hidden, mlp, feed)

    return list(linears())
