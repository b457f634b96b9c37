"""Small random models of every exported family, and adapters for them whose B isn't zero."""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import transformers

from wire.model_file import config_of
from wire.peft_folder import write_lora
from wire.shape import target_modules

DIGEST = "ab" * 32
SIZES: dict[str, object] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": 300,
    "pad_token_id": 0,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}


def _longrope(original: int) -> dict[str, object]:
    """Return factors of LongRoPE; the long ones count for rows longer than ``original``."""
    parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": original,
        "short_factor": [1.0, 1.5, 2.0, 3.0],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "partial_rotary_factor": 0.5,
    }
    return {"rope_parameters": parameters, "original_max_position_embeddings": original}


#: Each with what is special about its family: family, and its configuration.
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "llama biased": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 24},
    ),
    "llama 3": ("llama", {"rope_parameters": _LLAMA3}),
    "llama linear": ("llama", {"rope_parameters": _LINEAR}),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": None}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2 yarn": ("qwen2", {"rope_parameters": _YARN}),
    "qwen2 yarn, its own growth": (
        "qwen2",
        {"rope_parameters": {**_YARN, "attention_factor": 1.3, "beta_fast": 24.0}},
    ),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "gemma2": (
        "gemma2",
        {
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 24,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3 long": ("phi3", _longrope(64)),
    "phi3 long, short rows": ("phi3", {"max_position_embeddings": 1024, **_longrope(256)}),
}
#: The plain one of each family.
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3")


def save_base(
    folder: Path, family: str, special: Mapping[str, object], dtype: torch.dtype = torch.float32
) -> transformers.PreTrainedModel:
    """Save a random model; return it, in float32, computing attention step by step."""
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **special})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # larger than the usual start, so that every difference shows
        for key, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=0.12)
            elif key.endswith("bias"):
                value.normal_(std=0.3)
            else:
                value.add_(torch.randn_like(value) * 0.2)
            # What is stored is what is computed with, whatever the type.
            value.copy_(value.to(dtype).float())
    # A copy: the angles of rotary embeddings would be rounded, too.
    copy.deepcopy(model).to(dtype).save_pretrained(folder)
    return model.eval()


def save_adapter(folder: Path, base: Path, ranks: tuple[int, ...] = (8, 4)) -> None:
    """Save an adapter of all linear layers; ranks take turns."""
    rng = np.random.default_rng(5)
    tensors: dict[str, np.ndarray] = {}
    for at, (target, (out, inputs)) in enumerate(target_modules(config_of(base)).items()):
        rank = ranks[at % len(ranks)]
        a = rng.normal(size=(rank, inputs)) / np.sqrt(inputs)
        b = rng.normal(size=(out, rank)) * 0.1
        tensors[f"{target}.lora_A"] = a.astype(np.float32)
        tensors[f"{target}.lora_B"] = b.astype(np.float32)
    write_lora(folder, tensors, "base")
