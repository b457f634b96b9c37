"""Weights before any training, as the families' own code in transformers draws them.

Matrices and embeddings are normal with the standard deviation ``initializer_range`` of the
configuration (0.02 where it says nothing, as GPT-2: Radford et al. 2019), biases are zero, and so
is the padding token's row; norms multiply by one. numpy draws them, so that the hub needs no torch
and a seed gives the same bytes with every version of it.
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.safetensors_writer import write_safetensors
from wire.shape import parameter_shapes

_STD = 0.02


def write_weights(folder: Path, config: Mapping[str, Any], seed: int) -> None:
    """Write ``model.safetensors`` in float32, a tensor at a time.

    Args:
        folder: an existing folder.
        config: the model's ``config.json``.
        seed: with a tensor's name it fixes that tensor.

    Raises:
        MalformedError: the configuration is none of a known family.
        OSError: the file can't be written.
    """
    shapes = parameter_shapes(config)

    def data() -> Iterator[memoryview]:
        for name, shape in shapes.items():
            yield np.ascontiguousarray(_drawn(name, shape, config, seed), dtype="<f4").data

    entries = {name: ("F32", shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", entries, data(), {"format": "pt"})


def _drawn(
    name: str, shape: tuple[int, ...], config: Mapping[str, Any], seed: int
) -> NDArray[np.float32]:
    if name.endswith("norm.weight"):
        # Gemma multiplies by 1 + w.
        return np.full(shape, 0.0 if config["model_type"] == "gemma2" else 1.0, dtype=np.float32)
    if name.endswith(".bias"):
        return np.zeros(shape, dtype=np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    std = np.float32(config.get("initializer_range", _STD))
    drawn: NDArray[np.float32] = rng.standard_normal(shape, dtype=np.float32) * std
    padding = config.get("pad_token_id")
    if name == "model.embed_tokens.weight" and isinstance(padding, int):
        drawn[padding] = 0.0
    return drawn
