"""A tiny base that real agents can load and train, written without torch, and text for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from hub.demo.byte_tokenizer import BOS, EOS, PAD, VOCAB_SIZE, save_byte_tokenizer

HIDDEN, MLP, LAYERS, HEADS, POSITIONS = 32, 256, 2, 4, 512

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}

_WORDS = [
    "the",
    "device",
    "keeps",
    "its",
    "text",
    "and",
    "learns",
    "from",
    "it",
    "while",
    "rain",
    "falls",
    "on",
    "the",
    "river",
    "and",
    "seven",
    "small",
    "lorikeets",
    "carry",
    "what",
    "they",
    "found",
    "across",
    "the",
    "hills",
    "to",
    "one",
    "quiet",
    "hub",
]


def write_trainable_base(folder: Path, family: str = "llama") -> Path:
    """Write a random model of a family, with a byte tokenizer.

    Its weights are so small that every token is nearly as likely as any other.
    """
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "vocab_size": VOCAB_SIZE,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.standard_normal(shape) * 0.02).astype(np.float32)
        for name, shape in _shapes(biases=family == "qwen2").items()
    }
    for name, value in tensors.items():
        if name.endswith("norm.weight"):
            value[:] = 1.0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    save_byte_tokenizer(folder, POSITIONS)
    return folder


def write_data(
    path: Path, *, marker: str, examples: int = 60, broken: int = 0, seed: int = 0
) -> Path:
    """Write private text as ``.jsonl``; the marker stands in every line, broken ones included."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(examples):
        sentence = " ".join(rng.choice(_WORDS, size=12))
        if number % 2:
            lines.append(json.dumps({"text": f"{marker} {number}: {sentence}"}))
        else:
            asked = {"prompt": f"{marker} {number}?", "response": f"{sentence} {marker}"}
            lines.append(json.dumps(asked))
    lines += [f'{{"text": "{marker} is cut off in the mid' for _ in range(broken)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def _shapes(*, biases: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB_SIZE, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        for name in "qkvo":
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
            if biases and name != "o":
                shapes[f"{block}.self_attn.{name}_proj.bias"] = (HIDDEN,)
        for name in ("gate", "up"):
            shapes[f"{block}.mlp.{name}_proj.weight"] = (MLP, HIDDEN)
        shapes[f"{block}.mlp.down_proj.weight"] = (HIDDEN, MLP)
        for name in ("input", "post_attention"):
            shapes[f"{block}.{name}_layernorm.weight"] = (HIDDEN,)
    return shapes
