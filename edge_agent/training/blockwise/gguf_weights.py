"""A base model's tensors from a GGUF file, in Hugging Face's names and layout."""

from pathlib import Path
from typing import Any, Self

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.mapped import MappedFile
from edge_agent.training.blockwise.mapped_weights import MappedWeights, StoredMatrix
from wire.errors import WireError
from wire.gguf_header import GgufTensor, read_header
from wire.gguf_names import added, hugging_face_name, moved_rows


class GgufWeights(MappedWeights):
    """`Weights` over a GGUF file."""

    @classmethod
    def open(cls, config: dict[str, Any], path: Path, dtype: torch.dtype) -> Self:
        """Map a model's file.

        Args:
            config: made from the file's metadata, see `wire.gguf_config`.
            path: of the file.
            dtype: of what is handed out, bfloat16 or float32.

        Raises:
            ModelError: the file can't be used, or its tensors are of kinds that aren't known.
        """
        try:
            headers = read_header(path).tensors
        except (OSError, WireError) as error:
            raise ModelError(f"{path} can't be used: {error}") from error
        file = MappedFile(path)
        tensors: dict[str, StoredMatrix] = {}
        for stored_name, header in headers.items():
            name = hugging_face_name(stored_name, config["model_type"])
            if name is not None:
                tensors[name] = _stored(file, name, header, config)
        return cls(config, path, tensors, dtype)


def _stored(
    file: MappedFile, name: str, header: GgufTensor, config: dict[str, Any]
) -> StoredMatrix:
    family, head_dim = config["model_type"], config["head_dim"]
    rows = header.shape[0] if header.shape else 0
    order = None
    if rows % head_dim == 0 and head_dim % 2 == 0:  # others fail when their shapes are checked
        order = moved_rows(name, family, rows, head_dim)
    return StoredMatrix(
        file=file,
        kind=header.kind.lower(),
        shape=header.shape,
        start=header.start,
        size_bytes=header.size_bytes,
        order=None if order is None else torch.from_numpy(order),
        period=1 if order is None else head_dim,
        less=added(name, family),
    )
