"""Small models of every family, with the sizes that switch on what is special about it."""

import json
from pathlib import Path

import torch
import transformers

#: Grouped heads everywhere; head size other than hidden / heads; biases, tying, soft caps,
#: windows shorter than the rows, stretched and partial rotary embeddings.
SHAPES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {"num_key_value_heads": 2}),
    "llama biased": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 12},
    ),
    "llama 3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "mistral": ("mistral", {"sliding_window": 5, "head_dim": 16}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 sliding": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen2 yarn": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 12,
            "sliding_window": 5,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "phi3": ("phi3", {"sliding_window": 6, "pad_token_id": 0}),
    "phi3 long": (
        "phi3",
        {
            "pad_token_id": 0,
            "original_max_position_embeddings": 16,
            "max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 16,
                "short_factor": [1.0, 1.5],
                "long_factor": [2.0, 3.0],
                "partial_rotary_factor": 0.5,
            },
        },
    ),
}
#: Families without blocks of our own, each for what it has and Llama has not.
OTHERS: dict[str, tuple[str, dict[str, object]]] = {
    "bloom": ("bloom", {}),  # slopes in place of positions, a norm on embeddings, fused matrices
    "cohere": ("cohere", {"logit_scale": 0.5, "use_qk_norm": True}),  # attention beside the MLP
    "falcon": ("falcon", {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "gemma": ("gemma", {"head_dim": 16}),  # embeddings are scaled
    "gemma3": (
        "gemma3_text",
        {
            "head_dim": 16,
            "sliding_window": 5,
            "final_logit_softcapping": 2.0,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "gpt2": ("gpt2", {"n_positions": 64}),  # matrices stored as (in, out)
    "gpt_neox": ("gpt_neox", {"use_parallel_residual": True}),  # the head has another name
    "granite": (
        "granite",
        {
            "attention_multiplier": 0.3,
            "embedding_multiplier": 3.0,
            "logits_scaling": 4.0,
            "residual_multiplier": 0.5,
        },
    ),
    "olmo2": ("olmo2", {}),  # norms behind attention and MLP, none before
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 16}),  # learned positions, a projection
    "phi": ("phi", {"partial_rotary_factor": 0.5}),  # the head has a bias
    "stablelm": ("stablelm", {"use_qkv_bias": True, "qk_layernorm": True}),
    "starcoder2": ("starcoder2", {"sliding_window": 5, "use_bias": True}),
}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 300,
}


def save_model(name: str, folder: Path) -> transformers.PreTrainedModel:
    """Save a random float32 model of those above; return it, computing attention step by step."""
    family, special = (SHAPES | OTHERS)[name]
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **special})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # larger than the usual start, so that every difference shows
        for key, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=0.2)
            elif key.endswith("bias"):
                value.normal_(std=0.3)
            else:
                value.add_(torch.randn_like(value) * 0.2)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == family
    return model.eval()
