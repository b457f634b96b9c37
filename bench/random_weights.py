"""Random weights in a model's true shape: one tensor after the other, never the whole model."""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.shapes import Shape

#: A prime, so that no row of a matrix repeats the one above it.
_POOL = 4_194_301
_DEVIATION = 0.02  # transformers' `initializer_range`
_CHUNK = 1 << 24  # numbers written at once


class RandomWeights:
    """The tensors of a shape, the same at every call, whatever file they are written to.

    One pool of normal numbers is read from a place that a tensor's name decides: a fresh number
    for each parameter would take minutes for a billion of them.

    Attributes:
        shapes: of every tensor of the checkpoint, by its name in Hugging Face's layout.
    """

    def __init__(self, shape: Shape) -> None:
        self.shapes = _tensor_shapes(shape.config)
        # Gemma's norms multiply by 1 + weight, the others' by weight.
        self._norm_offset = 0.0 if shape.config["model_type"] == "gemma2" else 1.0
        pool = np.random.default_rng(7).standard_normal(_POOL, dtype=np.float32) * _DEVIATION
        self._pool = _bf16(pool)
        self._norm_pool = _bf16(pool[:_CHUNK] + self._norm_offset)

    def bf16(self, name: str) -> NDArray[np.uint16]:
        """Return the bits of a tensor in bfloat16."""
        size = int(np.prod(self.shapes[name]))
        pool = self._norm_pool if name.endswith("norm.weight") else self._pool
        start = zlib.crc32(name.encode()) % pool.size
        turned = np.concatenate([pool[start:], pool[:start]])
        return np.resize(turned, size).reshape(self.shapes[name])

    def float32(self, name: str) -> NDArray[np.float32]:
        """Return the very numbers of `bf16` in float32."""
        return (self.bf16(name).astype(np.uint32) << 16).view(np.float32)


def write_folder(shape: Shape, folder: Path) -> None:
    """Write ``config.json`` and one ``model.safetensors`` in bfloat16.

    The layout is the one of https://huggingface.co/docs/safetensors: the header's length in 8
    bytes, the header in JSON, then the tensors.
    """
    weights = RandomWeights(shape)
    (folder / "config.json").write_text(json.dumps(shape.config, indent=1))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, sizes in weights.shapes.items():
        size_bytes = 2 * int(np.prod(sizes))
        offsets = [at, at + size_bytes]
        header[name] = {"dtype": "BF16", "shape": list(sizes), "data_offsets": offsets}
        at += size_bytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in weights.shapes:
            for piece in _pieces(weights.bf16(name)):
                piece.tofile(file)


def _pieces(tensor: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    flat = tensor.reshape(-1)
    for at in range(0, flat.size, _CHUNK):
        yield flat[at : at + _CHUNK]


def _bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 numbers, which is bfloat16 rounded towards zero."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Ask transformers itself, on its device without memory, what a checkpoint holds."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(config["model_type"], **values)
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        del shapes["lm_head.weight"]
    return shapes
