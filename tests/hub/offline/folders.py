"""LoRA folders as PEFT writes them, without PEFT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

SHAPES = {"model.layers.0.q_proj": (12, 8), "model.layers.1.down_proj": (6, 20)}  # (out, in)

Array = NDArray[np.float32]


def random_factors(
    seed: int, ranks: Mapping[str, int], shapes: Mapping[str, tuple[int, int]] = SHAPES
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    tensors: dict[str, Array] = {}
    for target, rank in ranks.items():
        out, width = shapes[target]
        for name, shape in (("lora_A", (rank, width)), ("lora_B", (out, rank))):
            tensors[f"base_model.model.{target}.{name}.weight"] = rng.normal(size=shape).astype(
                np.float32
            )
    return tensors


def write_folder(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    folder.mkdir(parents=True)
    whole = {
        "peft_type": "LORA",
        "base_model_name_or_path": "./base",
        "revision": None,
        "r": 2,
        "lora_alpha": 4,
        "bias": "none",
        "use_dora": False,
        "target_modules": ["q_proj", "down_proj"],
        "layer_replication": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(whole | config))
    save_file(dict(tensors), folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def plain(folder: Path, seed: int = 0, rank: int = 2, **config: Any) -> Path:
    """Write a folder of one rank; its scale is 2 unless ``lora_alpha`` says another."""
    tensors = random_factors(seed, dict.fromkeys(SHAPES, rank))
    return write_folder(folder, tensors, **{"r": rank, "lora_alpha": 2 * rank, **config})


def product(tensors: Mapping[str, Array], target: str, scale: float) -> NDArray[np.float64]:
    a, b = (tensors[f"base_model.model.{target}.lora_{f}.weight"] for f in "AB")
    return scale * (b.astype(np.float64) @ a.astype(np.float64))
