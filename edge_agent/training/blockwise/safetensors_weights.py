"""A base model's tensors from safetensors files, in one file or in shards."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.mapped import MappedFile
from edge_agent.training.blockwise.mapped_weights import MappedWeights, StoredMatrix
from wire.errors import WireError
from wire.safetensors_header import StoredTensor, read_header

_KINDS = {"BF16": "bf16", "F16": "f16", "F32": "f32"}


class SafetensorsWeights(MappedWeights):
    """`Weights` over safetensors files."""

    @classmethod
    def open(cls, config: Mapping[str, Any], paths: list[Path], dtype: torch.dtype) -> Self:
        """Map the files of a model.

        Args:
            config: the model's ``config.json``.
            paths: every file that holds tensors of it.
            dtype: of what is handed out, bfloat16 or float32.

        Raises:
            ModelError: a file can't be used, two hold the same tensor, or most numbers are not of a
                plain floating-point type.
        """
        tensors: dict[str, StoredMatrix] = {}
        counts: dict[str, int] = {}  # numbers of each type
        for path in paths:
            headers, file = _headers(path), MappedFile(path)
            for name, header in headers.items():
                if name in tensors:
                    raise ModelError(f"{path} holds {name!r}, which another shard holds too.")
                size = math.prod(header.shape)
                counts[header.dtype] = counts.get(header.dtype, 0) + size
                # Others are no weights: buffers, such as positions, or marks of a training run.
                if header.dtype in _KINDS and size and header.shape:
                    tensors[name] = StoredMatrix(
                        file=file,
                        kind=_KINDS[header.dtype],
                        shape=header.shape,
                        start=header.start,
                        size_bytes=header.size_bytes,
                    )
        dtype_name = max(counts, key=lambda name: counts[name], default="nothing")
        if dtype_name not in _KINDS:
            known = ", ".join(_KINDS)
            raise ModelError(
                f"{paths[0].parent} stores its weights as {dtype_name}; known are {known}."
            )
        return cls(config, paths[0].parent, tensors, dtype)


def _headers(path: Path) -> dict[str, StoredTensor]:
    try:
        return read_header(path)
    except (OSError, WireError) as error:
        raise ModelError(f"{path} can't be used: {error}") from error
