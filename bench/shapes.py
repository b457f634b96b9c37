"""The models that the memory bench measures: true shapes, so that random weights serve."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A model's shape.

    Attributes:
        name: of its files.
        config: what its ``config.json`` says.
        left_out: whether no formula and no calibration of ours ever saw it.
    """

    name: str
    config: dict[str, Any]
    left_out: bool = False


def _config(
    family: str,
    hidden: int,
    layers: int,
    mlp: int,
    heads: tuple[int, int],  # of queries, of keys and values
    *,
    vocab: int,
    **more: object,
) -> dict[str, Any]:
    classes = {"gemma2": "Gemma2", "phi3": "Phi3", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    return {
        "architectures": [f"{classes.get(family, family.capitalize())}ForCausalLM"],
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": mlp,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": vocab - 1,
        "eos_token_id": vocab - 1,
        "torch_dtype": "bfloat16",
        **more,
    }


#: The published shapes of TinyLlama-1.1B and Qwen2.5-0.5B.
LLAMA_1B = Shape("llama-1.1b", _config("llama", 2048, 22, 5632, (32, 4), vocab=32_000))
QWEN_HALF_B = Shape(
    "qwen2.5-0.5b",
    _config(
        "qwen2", 896, 24, 4864, (14, 2), vocab=151_936, tie_word_embeddings=True, rope_theta=1e6,
        use_sliding_window=False,
    ),
)  # fmt: skip
LLAMA_SMALL = Shape("llama-160m", _config("llama", 768, 12, 2048, (12, 12), vocab=32_000))
LLAMA_TINY = Shape("llama-40m", _config("llama", 512, 4, 1408, (8, 2), vocab=32_000))

#: Four that no formula was fitted on and no calibration runs: other families, head counts, head
#: sizes, and vocabularies than those above.
MISTRAL = Shape(
    "mistral-430m",
    _config(
        "mistral", 1280, 16, 4480, (20, 5), vocab=32_768, head_dim=64, sliding_window=192,
        rms_norm_eps=1e-5,
    ),
    left_out=True,
)  # fmt: skip
GEMMA = Shape(
    "gemma2-470m",
    _config(
        "gemma2", 1024, 12, 4096, (8, 4), vocab=256_000, head_dim=256, sliding_window=128,
        query_pre_attn_scalar=256, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
        hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True, pad_token_id=0,
    ),
    left_out=True,
)  # fmt: skip
PHI = Shape(
    "phi3-440m",
    _config(
        "phi3", 1536, 12, 4096, (16, 16), vocab=32_064, sliding_window=2047, pad_token_id=32_000,
        rms_norm_eps=1e-5,
    ),
    left_out=True,
)  # fmt: skip
QWEN3 = Shape(
    "qwen3-410m",
    _config(
        "qwen3", 1024, 16, 3072, (16, 8), vocab=151_936, head_dim=128, tie_word_embeddings=True,
        rope_theta=1e6,
    ),
    left_out=True,
)  # fmt: skip

SHAPES = {
    shape.name: shape
    for shape in (LLAMA_1B, QWEN_HALF_B, LLAMA_SMALL, LLAMA_TINY, MISTRAL, GEMMA, PHI, QWEN3)
}
