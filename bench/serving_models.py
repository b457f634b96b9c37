"""What the serving benches load: a Llama of random weights in Q4_0, and adapters for it."""

from pathlib import Path

import numpy as np

from bench.model_files import ModelFiles
from bench.shapes import LLAMA_1B, LLAMA_TINY, Shape
from wire.peft_folder import write_lora
from wire.shape import target_modules

RANK = 16


def shape_of(*, quick: bool) -> Shape:
    """Return the shape that is served: 1.1B parameters, or 40M where time is short."""
    return LLAMA_TINY if quick else LLAMA_1B


def base_file(folder: Path, shape: Shape) -> Path:
    """Return a shape's GGUF file in Q4_0; it is kept in the folder."""
    return ModelFiles(folder).path(shape, "q4_0")


def adapter_folder(folder: Path, shape: Shape, seed: int) -> Path:
    """Write a PEFT folder of rank 16 on all linear layers that changes every answer; return it."""
    path = folder / f"adapter-{shape.name}-{seed}"
    if (path / "adapter_config.json").is_file():
        return path
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for target, (out, inputs) in target_modules(shape.config).items():
        a = rng.standard_normal((RANK, inputs), dtype=np.float32) / np.sqrt(inputs)
        tensors[f"{target}.lora_A"] = a.astype(np.float32)
        tensors[f"{target}.lora_B"] = rng.standard_normal((out, RANK), dtype=np.float32) * 0.05
    write_lora(path, tensors, shape.name)
    return path
