"""A tiny random base model, written without torch, and a job file for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_base(folder: Path, *, hidden: int = 16, mlp: int = 32, layers: int = 1) -> Path:
    """Write a random Llama with byte tokens, as Hugging Face lays it out."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 256,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (256, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(layers):
        block = f"model.layers.{layer}"
        for name in "qkvo":
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (hidden, hidden)
        for name in ("gate", "up"):
            shapes[f"{block}.mlp.{name}_proj.weight"] = (mlp, hidden)
        shapes[f"{block}.mlp.down_proj.weight"] = (hidden, mlp)
        for name in ("input", "post_attention"):
            shapes[f"{block}.{name}_layernorm.weight"] = (hidden,)
    tensors = {
        name: (rng.standard_normal(shape) * 0.02).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def job_text(job: str, base: Path, **changes: Any) -> str:
    """Return a small job file; JSON is YAML, too."""
    settings: dict[str, Any] = {
        "job": job,
        "model": {"base": str(base)},
        "method": "lora+prompt",
        "lora": {"rank": 4, "min_rank": 1},
        "prompt": {"tokens": 4},
        "rounds": 2,
        "cohort": {"min": 1, "max": 20},
        "deadline_s": 120,
        "local": {"steps": 20, "batch": 1, "seq_len": 32, "min_seq_len": 16},
        "seed": 7,
    }
    return json.dumps(settings | changes)
