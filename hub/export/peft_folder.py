"""The global adapter as PEFT folders, written without PEFT or torch.

LoRA: ``lora_alpha`` = r, so PEFT's scale is 1 and it adds exactly B A. The soft prompt stands in a
folder of its own, since PEFT keeps one kind in one folder. Format: `save_pretrained` of PEFT 0.14
to 0.21 (https://huggingface.co/docs/peft/developer_guides/checkpoint).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save

from hub.aggregation.contract import Array, GlobalAdapter
from wire.tensors import PackedFile

#: Name of the soft prompt's folder inside the adapter's.
PROMPT_FOLDER = "prompt"


def export_peft(adapter: GlobalAdapter, folder: Path, base: str) -> None:
    """Write the LoRA part into ``folder`` and the soft prompt into ``folder/prompt``.

    A job without LoRA has only the latter, one without a prompt only the former.

    Args:
        adapter: the packed global adapter.
        folder: made if it isn't there; files of an older export are replaced.
        base: name or path of the base model, noted in the configuration.
    """
    manifest = adapter.manifest
    if adapter.lora is not None:
        with PackedFile.open(adapter.lora, manifest.expected_lora(manifest.rank)) as packed:
            write_lora(folder, {name: packed.get(name) for name in packed.names()}, base)
    if adapter.prompt is not None:
        with PackedFile.open(adapter.prompt, manifest.expected_prompt()) as packed:
            write_prompt(folder / PROMPT_FOLDER, packed.get("prompt"), base)


def write_lora(folder: Path, tensors: Mapping[str, Array], base: str) -> None:
    """Write a LoRA folder.

    Args:
        folder: made if it isn't there.
        tensors: ``{target}.lora_A`` (r, in) and ``{target}.lora_B`` (out, r) of each target
            module, the same r everywhere.
        base: name or path of the base model.
    """
    targets = sorted(name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A"))
    rank = int(tensors[f"{targets[0]}.lora_A"].shape[0])
    config = _config("LORA", base) | {
        "r": rank,
        "lora_alpha": rank,
        # Whole module paths: a suffix could also match a layer that wasn't trained.
        "target_modules": targets,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
    }
    _write(folder, config, {f"base_model.model.{n}.weight": t for n, t in tensors.items()})


def write_prompt(folder: Path, prompt: Array, base: str) -> None:
    """Write a soft prompt, (tokens, hidden), as a prompt-tuning folder."""
    tokens, hidden = prompt.shape
    config = _config("PROMPT_TUNING", base) | {
        "num_virtual_tokens": tokens,
        "token_dim": hidden,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    _write(folder, config, {"prompt_embeddings": prompt})


def _config(kind: str, base: str) -> dict[str, Any]:
    return {
        "peft_type": kind,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": None,
        "inference_mode": True,
    }


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, Array]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors writes an array's memory as it lies, whatever its strides.
    plain = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    weights: bytes = save(plain, metadata={"format": "pt"})
    text = msgspec.json.format(msgspec.json.encode(config), indent=2)
    # The configuration comes last: a folder that has it is complete.
    for name, content in (("adapter_model.safetensors", weights), ("adapter_config.json", text)):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
