"""ggml's block formats taken apart: whole numbers in their natural order, and what scales them.

Layouts: block_q4_0 to block_q6_K in https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
A weight is ``q * scale - low``; each format has its own bits for q, and its own way to store the
other two. All is done with operations that torch vectorises on every processor, over many blocks at
once: nibbles are masked sixteen bits at a time, and put in order in runs of sixteen bytes, which
torch copies as one complex number.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

#: A buffer of that name, shape and type, which the next call for the same name overwrites.
Buffers = Callable[[str, tuple[int, ...], torch.dtype], torch.Tensor]

_RUN = torch.complex128  # sixteen bytes
_NIBBLES = 0x0F0F
_HIGH_NIBBLES = 0xF0F0 - 0x10000  # as int16
#: Turns each nibble's highest bit: 0 to 15 become 8 to 15 and 0 to 7, which is q - 8 as four bits
#: of two's complement.
_SIGNED = 0x8888 - 0x10000
#: A byte's bits, lowest first, as the fifth bit of eight bytes.
_FIFTH_BITS = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).to(torch.uint8).mul(16)
_SPREAD = _FIFTH_BITS.contiguous().view(torch.int64).view(-1)


class Unpacked(NamedTuple):
    """Blocks taken apart: a weight is ``q * scale - low``."""

    q: torch.Tensor  # (n, groups, group) int8, contiguous
    scale: torch.Tensor  # (n, groups, 1) float32
    low: torch.Tensor | None  # (n, groups, 1) float32; None: 0


class Format(NamedTuple):
    """How a format's blocks are stored."""

    block: int  # weights
    block_bytes: int
    unpack: Callable[[torch.Tensor, Buffers], Unpacked]  # blocks are (n, block_bytes) uint8


def _halves(packed: torch.Tensor, runs: int, buffers: Buffers) -> torch.Tensor:
    """Return nibbles as bytes: of each `runs` times 16 bytes the low ones, then the high ones.

    Args:
        packed: (n, bytes / 2) int16, contiguous; overwritten.
        runs: of 16 bytes.
        buffers: for what is returned, (n, 2 * bytes) int8.
    """
    n, words = packed.shape
    low = torch.bitwise_and(packed, _NIBBLES, out=buffers("low", (n, words), torch.int16))
    packed.bitwise_right_shift_(4).bitwise_and_(_NIBBLES)
    return _in_order(low, packed, runs, buffers)


def _in_order(low: torch.Tensor, high: torch.Tensor, runs: int, buffers: Buffers) -> torch.Tensor:
    n, words = low.shape
    q = buffers("q", (n, 4 * words), torch.int8)
    ordered = q.view(_RUN).view(-1, 2, runs)
    ordered[:, 0].copy_(low.view(_RUN).view(-1, runs))
    ordered[:, 1].copy_(high.view(_RUN).view(-1, runs))
    return q


def _words(raw: torch.Tensor, start: int, stop: int, buffers: Buffers) -> torch.Tensor:
    """Return bytes of every block as int16, contiguous."""
    words = raw.view(torch.int16)[:, start // 2 : stop // 2]
    return buffers("words", tuple(words.shape), torch.int16).copy_(words)


def _half(raw: torch.Tensor, at: int, name: str, buffers: Buffers) -> torch.Tensor:
    """Return the float16 at a byte of every block, (n, 1) float32."""
    stored = raw.view(torch.float16)[:, at // 2 : at // 2 + 1]
    return buffers(name, (len(raw), 1), torch.float32).copy_(stored)


def _q4_0(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    # A block is a float16 and 16 bytes. q is 16 times what it should be, and its scale a sixteenth:
    # that leaves nibbles where the sign bit of a byte is.
    n = len(raw)
    words = buffers("copy", (n, 9), torch.int16)
    torch.bitwise_xor(raw.view(torch.int16), _SIGNED, out=words)
    high = buffers("words", (n, 8), torch.int16).copy_(words[:, 1:])
    low = torch.bitwise_left_shift(high, 4, out=buffers("low", (n, 8), torch.int16))
    q = _in_order(low.bitwise_and_(_HIGH_NIBBLES), high.bitwise_and_(_HIGH_NIBBLES), 1, buffers)
    bits = torch.bitwise_xor(words[:, :1], _SIGNED, out=buffers("bits", (n, 1), torch.int16))
    scale = buffers("scale", (n, 1), torch.float32).copy_(bits.view(torch.float16)).mul_(1 / 16)
    return Unpacked(q.view(n, 1, 32), scale.view(n, 1, 1), None)


def _q4_1(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _halves(_words(raw, 4, 20, buffers), 1, buffers)
    scale, low = _half(raw, 0, "scale", buffers), _half(raw, 2, "minimum", buffers).neg_()
    return Unpacked(q.view(n, 1, 32), scale.view(n, 1, 1), low.view(n, 1, 1))


def _with_fifth_bits(raw: torch.Tensor, at: int, buffers: Buffers) -> torch.Tensor:
    """Return five bits for each of 32 weights, whose fifth ones are four bytes at `at`."""
    n = len(raw)
    q = _halves(_words(raw, at + 4, at + 20, buffers), 1, buffers)
    index = buffers("index", (n, 4), torch.int32).copy_(raw[:, at : at + 4])
    fifth = buffers("fifth", (n * 4,), torch.int64)
    torch.index_select(_SPREAD, 0, index.view(-1), out=fifth)
    q.view(torch.int64).view(-1).bitwise_or_(fifth)
    return q


def _q5_0(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _with_fifth_bits(raw, 2, buffers).sub_(16)
    return Unpacked(q.view(n, 1, 32), _half(raw, 0, "scale", buffers).view(n, 1, 1), None)


def _q5_1(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _with_fifth_bits(raw, 4, buffers)
    scale, low = _half(raw, 0, "scale", buffers), _half(raw, 2, "minimum", buffers).neg_()
    return Unpacked(q.view(n, 1, 32), scale.view(n, 1, 1), low.view(n, 1, 1))


def _q8_0(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _words(raw, 2, 34, buffers).view(torch.int8)
    return Unpacked(q.view(n, 1, 32), _half(raw, 0, "scale", buffers).view(n, 1, 1), None)


def _scales_and_lows(raw: torch.Tensor, buffers: Buffers) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scales and lows of the eight groups of a K block, each (n, 8, 1) float32.

    Twelve bytes hold six bits for each, four groups at a time: the lower six bits of the first four
    bytes (scales) and the next four (lows) are the groups 0 to 3; groups 4 to 7 have four bits in
    the last four bytes, and their upper two bits are the upper two of the first eight.
    """
    n = len(raw)
    first, second, third = raw.view(torch.int32)[:, 1:4].unbind(1)
    six = torch.stack(
        [
            first & 0x3F3F3F3F,
            (third & 0x0F0F0F0F) | ((first >> 2) & 0x30303030),
            second & 0x3F3F3F3F,
            ((third >> 4) & 0x0F0F0F0F) | ((second >> 2) & 0x30303030),
        ],
        dim=1,
    ).view(torch.uint8)  # (n, 16)
    both = buffers("both", (n, 2, 8), torch.float32).copy_(six.view(n, 2, 8))
    both.mul_(raw.view(torch.float16)[:, :2].to(torch.float32).view(n, 2, 1))
    return both[:, 0].view(n, 8, 1), both[:, 1].view(n, 8, 1)


def _q4_k(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    q = _halves(_words(raw, 16, 144, buffers), 2, buffers)
    return Unpacked(q.view(-1, 8, 32), *_scales_and_lows(raw, buffers))


def _q5_k(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _halves(_words(raw, 48, 176, buffers), 2, buffers)
    _add_bits(q.view(n, 8, 32), _words(raw, 16, 48, buffers).view(n, 1, 16), 1, buffers)
    return Unpacked(q.view(n, 8, 32), *_scales_and_lows(raw, buffers))


def _q6_k(raw: torch.Tensor, buffers: Buffers) -> Unpacked:
    n = len(raw)
    q = _halves(_words(raw, 0, 128, buffers), 4, buffers)
    _add_bits(q.view(n * 2, 4, 32), _words(raw, 128, 192, buffers).view(n * 2, 1, 16), 2, buffers)
    scale = buffers("both", (n, 16), torch.float32).copy_(raw.view(torch.int8)[:, 192:208])
    scale.mul_(_half(raw, 208, "scale", buffers))
    return Unpacked(q.sub_(32).view(n, 16, 16), scale.view(n, 16, 1), None)


def _add_bits(q: torch.Tensor, bits: torch.Tensor, count: int, buffers: Buffers) -> None:
    """Put a group's upper bits above its nibbles.

    Args:
        q: (n, groups, 32) int8; changed.
        bits: (n, 1, 16) int16: group g's bits are `count` bits of each byte, from bit g * count.
        count: 1 or 2.
        buffers: for the bits on their way.
    """
    n, groups, _ = q.shape
    mask = (2**count - 1) * 0x0101
    shifts = torch.arange(groups, dtype=torch.int16)[:, None] * count
    upper = buffers("upper", (n, groups, 16), torch.int16)
    torch.bitwise_right_shift(bits, shifts, out=upper)
    upper.bitwise_and_(mask).bitwise_left_shift_(4)
    q.view(torch.int16).bitwise_or_(upper)


#: By the name that ggml has for them, in small letters.
FORMATS = {
    "q4_0": Format(32, 18, _q4_0),
    "q4_1": Format(32, 20, _q4_1),
    "q5_0": Format(32, 22, _q5_0),
    "q5_1": Format(32, 24, _q5_1),
    "q8_0": Format(32, 34, _q8_0),
    "q4_k": Format(256, 144, _q4_k),
    "q5_k": Format(256, 176, _q5_k),
    "q6_k": Format(256, 210, _q6_k),
}
