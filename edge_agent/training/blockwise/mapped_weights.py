"""A base model's tensors in mapped files: pieces of matrices, rows of an embedding, vectors.

Safetensors and GGUF differ in where a tensor stands, how its numbers are stored, and in which order
its rows come; `safetensors_weights.py` and `gguf_weights.py` say that, the rest is the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.dequantise import KINDS, Expander, plain_dtype
from edge_agent.training.blockwise.mapped import MappedFile

#: Of one piece as it is handed out.
PIECE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class StoredMatrix:
    """A tensor in a mapped file; one of one dimension counts as a single row.

    Attributes:
        file: that holds it.
        kind: how its numbers are stored, one of `dequantise.KINDS`.
        shape: as it is handed out.
        start: of its first byte.
        size_bytes: of all rows.
        order: where each row stands in the file, (rows,) int64; None: in its own place. For a
            vector, of each entry.
        period: rows that change places among themselves only, beginning at multiples of it.
        less: is taken off each number of a vector.
    """

    file: MappedFile
    kind: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int
    order: torch.Tensor | None = None
    period: int = 1
    less: float = 0.0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is stored."""
        return self.size_bytes // self.shape[0] if len(self.shape) > 1 else self.size_bytes

    def bytes_of(self, first: int, last: int) -> torch.Tensor:
        """Return rows as they stand in the file, (last - first, row_bytes) uint8, read-only."""
        begin, end = self.start + first * self.row_bytes, self.start + last * self.row_bytes
        return self.file.view(begin, end).view(last - first, self.row_bytes)

    def gathered(self, rows: list[int]) -> torch.Tensor:
        """Return copies of some rows as they stand in the file, (len(rows), row_bytes) uint8."""
        starts = [self.start + row * self.row_bytes for row in rows]
        return self.file.gather(starts, self.row_bytes)

    def release(self, first: int, last: int) -> None:
        """Give back the pages of some rows."""
        begin, end = self.start + first * self.row_bytes, self.start + last * self.row_bytes
        self.file.release(begin, end)


class MappedWeights:
    """`Weights` over mapped files; see `contract.py` for what each method promises.

    Where the file's type is the one that is handed out, a piece is a view of the mapping and not a
    copy. Elsewhere each piece is expanded into one buffer, which the next one overwrites.

    Args:
        config: the model's ``config.json``, or the same made from a GGUF header.
        name: of the model, for messages.
        tensors: by their names in Hugging Face's layout.
        dtype: of what is handed out, bfloat16 or float32.

    Raises:
        ModelError: a tensor is of a kind that can't be expanded, or there is none.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        name: Path,
        tensors: Mapping[str, StoredMatrix],
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tensor.shape for name, tensor in tensors.items()
        }
        self.stored = _most_common(name, tensors)
        self.dtype = dtype
        self._name = name
        self._tensors = tensors
        self._expander = Expander(dtype)
        self._kept: dict[str, torch.Tensor] = {}

    def pieces(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield consecutive rows of a matrix, each piece valid until the next one is asked for."""
        tensor = self._matrix(name)
        rows, columns = tensor.shape
        stop = rows if stop is None else stop
        step = max(1, PIECE_BYTES // (columns * self.dtype.itemsize))
        period = tensor.period
        step = max(step - step % period, 1)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            # Of rows that change places, all that may be meant.
            begin, end = first - first % period, min(rows, last + -last % period)
            try:
                yield slice(first, last), self._expanded(tensor, first, last)
            finally:
                tensor.release(begin, end)

    def vector(self, name: str) -> torch.Tensor:
        """Return a whole tensor of one dimension, a float32 copy of its own."""
        tensor = self._named(name)
        if len(tensor.shape) != 1:
            raise ModelError(f"{name} has the shape {tensor.shape}; a vector is needed.")
        found = torch.empty(1, *tensor.shape)
        Expander(torch.float32).expand(tensor.kind, _aligned(tensor, tensor.bytes_of(0, 1)), found)
        tensor.release(0, 1)
        found = found[0] if tensor.order is None else found[0][tensor.order]
        return found - tensor.less if tensor.less else found

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """Return some rows of a matrix, as for an embedding."""
        tensor = self._matrix(name)
        wanted = ids if tensor.order is None else tensor.order[ids]
        raw = tensor.gathered(wanted.tolist())
        found = torch.empty(len(ids), tensor.shape[1], dtype=self.dtype)
        self._expander.expand(tensor.kind, raw, found)
        return found

    def ahead(self, names: list[str]) -> None:
        """Let the kernel begin to read some tensors; returns at once."""
        for name in names:
            tensor = self._named(name)
            tensor.file.ahead(tensor.start, tensor.start + tensor.size_bytes)

    def close(self) -> None:
        """Unmap the files."""
        for file in {id(tensor.file): tensor.file for tensor in self._tensors.values()}.values():
            file.close()

    def _expanded(self, tensor: StoredMatrix, first: int, last: int) -> torch.Tensor:
        """Return rows as numbers: of the mapping, or of a buffer that is used again."""
        count = last - first
        if tensor.order is None:
            raw = _aligned(tensor, tensor.bytes_of(first, last))
        else:
            whole = tensor.bytes_of(0, tensor.shape[0])
            raw = self._buffer("rows", count * tensor.row_bytes).view(count, tensor.row_bytes)
            torch.index_select(whole, 0, tensor.order[first:last], out=raw)
        if plain_dtype(tensor.kind) == self.dtype:
            return raw.view(self.dtype)
        size_bytes = count * tensor.shape[1] * self.dtype.itemsize
        out = self._buffer("piece", size_bytes).view(self.dtype).view(count, tensor.shape[1])
        self._expander.expand(tensor.kind, raw, out)
        return out

    def _buffer(self, name: str, size_bytes: int) -> torch.Tensor:
        kept = self._kept.get(name)
        if kept is None or len(kept) < size_bytes:
            # An inference tensor could not be written to outside of inference mode later.
            with torch.inference_mode(False):
                kept = self._kept[name] = torch.empty(size_bytes, dtype=torch.uint8)
        return kept[:size_bytes]

    def _named(self, name: str) -> StoredMatrix:
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(
                f"{self._name} has no tensor {name!r} of floating-point numbers. "
                "Is it a complete causal language model?"
            )
        return tensor

    def _matrix(self, name: str) -> StoredMatrix:
        tensor = self._named(name)
        if len(tensor.shape) != 2:
            raise ModelError(f"{name} has the shape {tensor.shape}; a matrix is needed.")
        return tensor


def _aligned(tensor: StoredMatrix, raw: torch.Tensor) -> torch.Tensor:
    """Return bytes that can be seen as the numbers they are: themselves wherever possible."""
    # Only a safetensors header of odd length puts them elsewhere; writers pad it, but need not.
    plain = plain_dtype(tensor.kind)
    return raw.clone() if plain and raw.storage_offset() % plain.itemsize else raw


def _most_common(name: Path, tensors: Mapping[str, StoredMatrix]) -> str:
    """Return the kind of most numbers; refuse kinds that can't be expanded."""
    counts: dict[str, int] = {}
    for path, tensor in tensors.items():
        if tensor.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ModelError(f"{name}: {path} is stored as {tensor.kind}; known are {known}.")
        size = torch.Size(tensor.shape).numel()
        counts[tensor.kind] = counts.get(tensor.kind, 0) + size
    if not counts:
        raise ModelError(f"{name} has no tensors of a causal language model.")
    return max(counts, key=lambda kind: counts[kind])
