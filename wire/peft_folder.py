"""Adapters as PEFT folders, written without PEFT or torch.

LoRA: ``lora_alpha`` = r, so PEFT's scale is 1 and it adds exactly B A. PEFT keeps one kind of
adapter in one folder. Format: `save_pretrained` of PEFT 0.14 to 0.21
(https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from wire.safetensors_writer import write_safetensors

Array = NDArray[np.float32]


def write_lora(
    folder: Path,
    tensors: Mapping[str, Array],
    base: str,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    revision: str | None = None,
) -> None:
    """Write a LoRA folder.

    Args:
        folder: made if it isn't there.
        tensors: ``{target}.lora_A`` (r, in) and ``{target}.lora_B`` (out, r) of each target
            module. Where r differs, the highest one is PEFT's ``r``, and others are patterns.
        base: name or path of the base model.
        shapes: of the tensors, where making one only to look at it would be dear.
        revision: of the base, where it has several.
    """
    shapes = shapes or {name: tensors[name].shape for name in tensors}
    targets = sorted(name.removesuffix(".lora_A") for name in shapes if name.endswith(".lora_A"))
    ranks = {target: int(shapes[f"{target}.lora_A"][0]) for target in targets}
    rank = max(ranks.values())
    lower = {target: one for target, one in ranks.items() if one != rank}
    config = _config("LORA", base) | {
        "revision": revision,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": lower,
        "alpha_pattern": lower,
        # Whole module paths: a suffix could also match a layer that wasn't trained.
        "target_modules": targets,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
    }
    _write(folder, config, tensors, shapes, lambda name: f"base_model.model.{name}.weight")


def write_prompt(folder: Path, prompt: Array, base: str) -> None:
    """Write a soft prompt, (tokens, hidden), as a prompt-tuning folder."""
    tokens, hidden = prompt.shape
    config = _config("PROMPT_TUNING", base) | {
        "num_virtual_tokens": tokens,
        "token_dim": hidden,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    _write(folder, config, {"prompt_embeddings": prompt}, {"prompt_embeddings": prompt.shape})


def write_prefix(folder: Path, tensors: Mapping[str, Array], base: str) -> None:
    """Write a per-layer prefix as a prefix-tuning folder without a projection.

    PEFT keeps one row a position: key and value of the first layer, of the second, and so on
    (`PeftModel.get_prompt`). Keys stand as attention sees them, behind the rotary embedding; the
    text's positions are counted from the prefix's end.

    Args:
        folder: made if it isn't there.
        tensors: ``prefix.{layer}.key`` and ``prefix.{layer}.value`` of every layer from 0 on,
            each (kv_heads, tokens, head_dim).
        base: name or path of the base model.
    """
    layers = len(tensors) // 2
    parts = [tensors[f"prefix.{at}.{kind}"] for at in range(layers) for kind in ("key", "value")]
    heads, tokens, size = parts[0].shape
    config = _config("PREFIX_TUNING", base) | {
        "num_virtual_tokens": tokens,
        "token_dim": heads * size,
        "num_transformer_submodules": 1,
        "num_attention_heads": heads,
        "num_layers": layers,
        "encoder_hidden_size": heads * size,
        "prefix_projection": False,
    }
    rows = np.stack(parts).transpose(2, 0, 1, 3)  # (tokens, 2 * layers, heads, size)
    flat = rows.reshape(tokens, -1)
    _write(folder, config, {"prompt_embeddings": flat}, {"prompt_embeddings": flat.shape})


def _config(kind: str, base: str) -> dict[str, Any]:
    return {
        "peft_type": kind,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": None,
        "inference_mode": True,
    }


def _write(
    folder: Path,
    config: dict[str, Any],
    tensors: Mapping[str, Array],
    shapes: Mapping[str, Sequence[int]],
    named: Callable[[str], str] = str,
) -> None:
    """Write both files; tensors are asked for one at a time, and never held together."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(
        folder / "adapter_model.safetensors",
        {named(name): ("F32", shapes[name]) for name in shapes},
        # An array's memory is written as it lies, whatever its strides.
        (np.ascontiguousarray(tensors[name], dtype="<f4").data for name in shapes),
        {"format": "pt"},
    )
    # The configuration comes last: a folder that has it is complete.
    partial = folder / "adapter_config.json.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
    partial.replace(folder / "adapter_config.json")
