"""A LoRA adapter as a GGUF file, as ``--lora`` of llama.cpp takes it.

Source: convert_lora_to_gguf.py and llama-adapter.cpp in https://github.com/ggml-org/llama.cpp.
The scale is part of B; an alpha of 0 means a scale of 1 there, whatever a layer's rank.
"""

from pathlib import Path

import numpy as np

from hub.export.gguf.base import in_file_order
from hub.export.gguf.keys import architecture_of
from hub.export.gguf.writer import F32, Planned, write_gguf
from hub.export.targets import checked_targets
from hub.offline.lora_folder import LoraFolder
from wire.derived import BASE_KEY
from wire.gguf_names import gguf_name
from wire.model_file import config_of
from wire.shape import shape_of


def write_adapter(adapter: Path, base: Path, path: Path, digest: str) -> None:
    """Write a PEFT folder's factors as one file, in float32.

    Args:
        adapter: LoRA folder of PEFT.
        base: a Hugging Face folder; only its ``config.json`` is read.
        path: of the file.
        digest: of the base's manifest.

    Raises:
        MalformedError: the adapter changes something else than linear layers of that base, or
            llama.cpp has no such layer.
        OSError: a file can't be read or written.
    """
    config = config_of(base)
    architecture, family = architecture_of(config), str(config["model_type"])
    head_dim = shape_of(config, 2).head_dim
    factors = LoraFolder(adapter)
    checked_targets(factors, config)
    tensors: list[Planned] = []
    for target, (out, inputs) in factors.shapes.items():
        name, rank = gguf_name(f"{target}.weight", family), factors.config.rank(target)
        read = _Factor(factors, target, family, head_dim)
        tensors.append(Planned(f"{name}.lora_a", (rank, inputs), F32, read.a))
        tensors.append(Planned(f"{name}.lora_b", (out, rank), F32, read.b))
    keys = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,
        BASE_KEY: digest,
    }
    write_gguf(path, architecture, keys, tensors)


class _Factor:
    """Reads a layer's factors when one is asked for."""

    def __init__(self, factors: LoraFolder, target: str, family: str, head_dim: int) -> None:
        self._factors, self._target = factors, target
        self._family, self._head_dim = family, head_dim

    def a(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return self._factors.factors(self._target).a

    def b(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        b = self._factors.factors(self._target).b
        return in_file_order(b, f"{self._target}.weight", self._family, self._head_dim)
