"""A step on a model of a few numbers: what torch loads late is then loaded, and can be measured."""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from edge_agent.probe.arithmetic import fast_bf16
from edge_agent.training.adamw import AdamW
from edge_agent.training.blockwise.known import KnownArchitecture
from edge_agent.training.blockwise.linear import Pair, Slot
from edge_agent.training.blockwise.open import open_weights
from edge_agent.training.blockwise.passes import Passes
from wire.shape import target_modules

_CONFIG = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def rehearse() -> None:
    """Write, open, adapt and train a tiny Llama once, in the type that this machine prefers."""
    dtype = torch.bfloat16 if fast_bf16() else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), dtype)
        weights = open_weights(Path(folder), dtype)
        targets = target_modules(_CONFIG)
        slots = {name: Slot() for name in targets}
        trained = []
        for name, (out, inputs) in targets.items():
            pair = Pair(torch.ones(2, inputs), torch.ones(out, 2))
            slots[name].lead = pair
            trained += [pair.down.requires_grad_(True), pair.up.requires_grad_(True)]
        cpu = torch.device("cpu")
        model = KnownArchitecture(weights, cpu, Path(folder))
        passes = Passes(model.ends, model.blocks(slots), model.head, cpu, weights.ahead)
        ids = torch.zeros(1, 32, dtype=torch.int64)
        passes.evaluate(ids, ids, None)
        passes.backward(ids, ids, None)
        AdamW(trained, 0.0).step(lr=1e-3, clip=1.0)
        weights.close()


def _write(folder: Path, dtype: torch.dtype) -> None:
    hidden, vocab = int(str(_CONFIG["hidden_size"])), int(str(_CONFIG["vocab_size"]))
    targets = target_modules(_CONFIG)
    tensors = {f"{name}.weight": torch.ones(shape) for name, shape in targets.items()}
    for index in range(2):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{index}.{norm}.weight"] = torch.ones(hidden)
    tensors["model.norm.weight"] = torch.ones(hidden)
    tensors["model.embed_tokens.weight"] = torch.ones(vocab, hidden)
    narrow = {name: value.to(dtype) for name, value in tensors.items()}
    save_file(narrow, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_CONFIG))
