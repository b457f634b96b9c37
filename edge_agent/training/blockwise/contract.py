"""What the block-wise engine wants of a base model's file: frozen tensors, a piece at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch


class Weights(Protocol):
    """The frozen tensors of a base model, by their names in Hugging Face's layout.

    Nothing of a matrix stays in memory beyond the piece that is being used: a mapped file's pages
    are given back, an expanded piece is overwritten by the next one. So a piece must not be kept,
    and two matrices are never read at once.

    Attributes:
        config: the model's ``config.json``, or the same made from a GGUF header.
        shapes: of every tensor, (out, in) or (size,).
        stored: how most of the parameters stand in the file: ``bf16``, ``f16``, ``f32``,
            ``q8_0``, ``q4_0``, ...
        dtype: of what is handed out, bfloat16 or float32.
    """

    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    stored: str
    dtype: torch.dtype

    def pieces(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield consecutive rows of a matrix, each piece valid until the next one is asked for.

        Args:
            name: of a tensor of two dimensions.
            start: first row.
            stop: behind the last row; None for all.

        Yields:
            the rows' range in the whole matrix, and (rows, in) in `dtype`, contiguous, read-only.
        """

    def vector(self, name: str) -> torch.Tensor:
        """Return a whole tensor of one dimension, a float32 copy of its own."""

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """Return some rows of a matrix, as for an embedding.

        Args:
            name: of a tensor of two dimensions.
            ids: (n,) int64.

        Returns:
            (n, in) in `dtype`, a copy of its own.
        """

    def ahead(self, names: list[str]) -> None:
        """Say what is used next, so that a slow disk may begin to read; returns at once."""

    def close(self) -> None:
        """Give up the file."""
