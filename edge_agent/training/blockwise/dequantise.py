"""Stored weights into numbers to compute with, bfloat16 or float32, as fast as torch alone can.

Exactness. In float32 the result is what ggml's own reference computes, to the last bit: the same
products and sums in the same order, and all but the last are exact. In bfloat16, q4_0, q5_0 and q8_0
round the scale and then the product (q, of at most eight bits, is exact); all others are the
float32 result rounded once. With eight bits of significand a rounding's relative error is at most
u / (1 + u) for u = 2^-8, so two of them change a weight by at most
(1 + u / (1 + u))^2 - 1 = (2u + 3u^2) / (1 + u)^2 < 2u = 2^-7 of itself.
"""

import torch

from edge_agent.training.blockwise.quantised import FORMATS, Unpacked

_PLAIN = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
#: What can be expanded.
KINDS = (*_PLAIN, *FORMATS)
#: Weights that one thread takes at a time: with all that is made of them they stay in its cache.
_CHUNK = 2**18
_MAX_BUFFERS = 64


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
        self._kept: dict[str, torch.Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...], torch.dtype], torch.Tensor] = {}

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
        step = max(1, self._chunk() // form.block)
        for at in range(0, len(blocks), step):
            some = blocks[at : at + step]
            self._finish(form.unpack(some, self._buffer), weights[at : at + step])

    def _finish(self, unpacked: Unpacked, out: torch.Tensor) -> None:
        q, scale, low = unpacked
        out = out.view(q.shape)
        # torch vectorises a product with one scale for each group: 32 bfloat16 or 16 float32.
        if self._dtype != torch.float32 and low is None and q.shape[-1] >= 32:
            narrow = self._buffer("narrow", tuple(scale.shape), self._dtype).copy_(scale)
            out.copy_(q).mul_(narrow)
            return
        wide = out
        if self._dtype != torch.float32:
            wide = self._buffer("wide", tuple(q.shape), torch.float32)
        wide.copy_(q).mul_(scale)
        if low is not None:
            wide.sub_(low)
        if wide is not out:
            out.copy_(wide)

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

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        key = (name, shape, dtype)
        found = self._views.get(key)
        if found is None:
            found = self._make(key)
        return found

    def _make(self, key: tuple[str, tuple[int, ...], torch.dtype]) -> torch.Tensor:
        name, shape, dtype = key
        size_bytes = dtype.itemsize
        for length in shape:
            size_bytes *= length
        if len(self._views) >= _MAX_BUFFERS:
            self._views.clear()
        kept = self._kept.get(name)
        # An inference tensor could not be written to outside of inference mode later.
        with torch.inference_mode(False):
            if kept is None or len(kept) < size_bytes:
                kept = self._kept[name] = torch.empty(size_bytes, dtype=torch.uint8)
                self._views = {
                    known: view for known, view in self._views.items() if known[0] != name
                }
            self._views[key] = kept[:size_bytes].view(dtype).view(shape)
        return self._views[key]
