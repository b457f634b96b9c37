"""Stored weights into numbers to compute with, bfloat16 or float32, as fast as torch alone can.

Exactness. In float32 the result is what ggml's own reference computes, to the last bit: the same
products and sums in the same order, and all but the last are exact. In bfloat16, q4_0, q5_0 and
q8_0 round the scale and then the product (q, of at most eight bits, is exact); all others are the
float32 result rounded once. With eight bits of significand a rounding's relative error is at most
u / (1 + u) for u = 2^-8, so two of them change a weight by at most
(1 + u / (1 + u))^2 - 1 = (2u + 3u^2) / (1 + u)^2 < 2u = 2^-7 of itself.

Speed. Nanoseconds a weight from q4_0 to bfloat16, 262,144 at a time, on one core of a Xeon at
2.6 GHz. In one run 0.68 this way, 0.74 through float32, 0.71 by a table that has four weights for
each 16 bits, in the order in which they are stored, and 1.33 in their natural order. In another,
with all views prepared, 0.57 this way, 0.60 through float32, 0.70 with batch_norm for the scaling,
0.85 by way of torch's quantised tensors. With two cores and blocks that come from memory, 0.37 at
best and 0.45 to 0.6 beside other programs; there q8_0 takes 0.5, q6_k and q4_k 1.0.
"""

import math

import torch

from edge_agent.training.blockwise.quantised import FORMATS, Buffers

_PLAIN = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
#: What can be expanded.
KINDS = (*_PLAIN, *FORMATS)
#: Weights that each thread takes at a time at least. torch gives a second thread work from 32,768
#: entries on, and the entries of some steps are blocks of 32 weights; much more than that, and what
#: is made of them leaves the caches.
_CHUNK = 33 * 2**14
#: The same where numbers pass through float32, of which there is room for so many in a cache.
_PART = 2**17
#: Matrices of a model differ in the blocks of their last chunk.
_MAX_PREPARED = 32


def plain_dtype(kind: str) -> torch.dtype | None:
    """Return torch's type for a kind that stores each number by itself, or None."""
    return _PLAIN.get(kind)


class Expander:
    """Expands stored weights; one for each base, since its buffers are used again and again.

    Args:
        dtype: of the result, bfloat16 or float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._storage: dict[str, torch.Tensor] = {}
        self._prepared: dict[tuple[str, int], _Prepared] = {}

    def expand(self, kind: str, raw: torch.Tensor, out: torch.Tensor) -> None:
        """Expand whole rows.

        Args:
            kind: one of `KINDS`.
            raw: (rows, stored bytes of a row) uint8, contiguous.
            out: (rows, columns) in the expander's type, contiguous; overwritten.
        """
        plain = _PLAIN.get(kind)
        if plain is not None:
            self._convert(raw.view(-1).view(plain), out.view(-1))
            return
        form = FORMATS[kind]
        blocks = raw.view(-1, form.block_bytes)
        weights = out.view(-1, form.block)
        least = max(1, self._chunk() // form.block)
        step = -(-len(blocks) // max(1, len(blocks) // least))
        for at in range(0, len(blocks), step):
            some = blocks[at : at + step]
            self._for(kind, len(some)).expand(some, weights[at : at + step])

    def _convert(self, stored: torch.Tensor, out: torch.Tensor) -> None:
        if stored.dtype != torch.float16 or out.dtype == torch.float32:
            out.copy_(stored)
            return
        # torch has no vectorised way from float16 to bfloat16: 0.8 ns a number, 0.25 through
        # float32, which holds every float16.
        step = self._chunk()
        for at in range(0, len(stored), step):
            some = stored[at : at + step]
            wide = self._buffer("wide", tuple(some.shape), torch.float32).copy_(some)
            out[at : at + step].copy_(wide)

    def _chunk(self) -> int:
        return _CHUNK * torch.get_num_threads()

    def _for(self, kind: str, blocks: int) -> "_Prepared":
        found = self._prepared.get((kind, blocks))
        if found is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            # What is made in inference mode could not be written to outside of it later.
            with torch.inference_mode(False):
                found = _Prepared(kind, blocks, self._dtype, self._buffer)
            self._prepared[kind, blocks] = found
        return found

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        size_bytes = math.prod(shape) * dtype.itemsize
        kept = self._storage.get(name)
        if kept is None or len(kept) < size_bytes:
            # What was prepared with the smaller one would hold on to it.
            self._prepared.clear()
            with torch.inference_mode(False):
                kept = self._storage[name] = torch.empty(size_bytes, dtype=torch.uint8)
        return kept[:size_bytes].view(dtype).view(shape)


class _Prepared:
    """Everything that so many blocks of a kind need, made once."""

    def __init__(self, kind: str, blocks: int, dtype: torch.dtype, buffers: Buffers) -> None:
        unpacked, self._fill = FORMATS[kind].prepare(blocks, buffers)
        self._q, self._scale, self._low = unpacked
        self._narrow: torch.Tensor | None = None
        self._wide: torch.Tensor | None = None
        if dtype == torch.float32:
            return
        # torch vectorises a product with one scale for each group of 32 bfloat16 or 16 float32.
        if self._low is None and self._q.shape[-1] >= 32:
            self._narrow = buffers("narrow", tuple(self._scale.shape), dtype)
        else:
            some = min(blocks, max(1, _PART * torch.get_num_threads() // self._q[0].numel()))
            self._wide = buffers("wide", (some, *self._q.shape[1:]), torch.float32)

    def expand(self, raw: torch.Tensor, out: torch.Tensor) -> None:
        """Expand blocks, (n, block_bytes) uint8, to (n, block)."""
        self._fill(raw)
        out = out.view(self._q.shape)
        if self._narrow is not None:
            out.copy_(self._q).mul_(self._narrow.copy_(self._scale))
        elif self._wide is None:
            _scaled(out, self._q, self._scale, self._low)
        else:
            step = len(self._wide)
            for at in range(0, len(out), step):
                part = slice(at, at + step)
                low = None if self._low is None else self._low[part]
                wide = self._wide[: len(out) - at]
                out[part] = _scaled(wide, self._q[part], self._scale[part], low)


def _scaled(
    out: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, low: torch.Tensor | None
) -> torch.Tensor:
    out.copy_(q).mul_(scale)
    return out if low is None else out.sub_(low)
