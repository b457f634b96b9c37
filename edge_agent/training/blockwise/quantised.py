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
#: As tensors: torch makes one of a number each time.
_NIBBLES = torch.tensor(0x0F0F, dtype=torch.int16)
_HIGH_NIBBLES = torch.tensor(0xF0F0 - 0x10000, dtype=torch.int16)
#: Turns each nibble's highest bit: 0 to 15 become 8 to 15 and 0 to 7, which is q - 8 as four bits
#: of two's complement.
_SIGNED = torch.tensor(0x8888 - 0x10000, dtype=torch.int16)
_FOUR = torch.tensor(4, dtype=torch.int16)
_SIXTEENTH = torch.tensor(1 / 16)
#: A byte's bits, lowest first, as the fifth bit of eight bytes.
_FIFTH_BITS = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).to(torch.uint8).mul(16)
_SPREAD = _FIFTH_BITS.contiguous().view(torch.int64).view(-1)


class Unpacked(NamedTuple):
    """Blocks taken apart: a weight is ``q * scale - low``."""

    q: torch.Tensor  # (n, groups, group) int8, contiguous
    scale: torch.Tensor  # (n, groups, 1) float32
    low: torch.Tensor | None  # (n, groups, 1) float32; None: 0


#: Takes n blocks apart, (n, block_bytes) uint8, into an `Unpacked` that was prepared for them.
Fill = Callable[[torch.Tensor], object]


class Format(NamedTuple):
    """How a format's blocks are stored.

    `prepare` makes all tensors and views for n blocks once: to make a view takes Python as long as
    torch takes for a thousand weights.
    """

    block: int  # weights
    block_bytes: int
    prepare: Callable[[int, Buffers], tuple[Unpacked, Fill]]


class _Halves:
    """Nibbles as bytes: of each so many runs of 16 bytes the low ones, then the high ones."""

    def __init__(self, n: int, size_bytes: int, runs: int, buffers: Buffers) -> None:
        self.packed = buffers("words", (n, size_bytes // 2), torch.int16)
        self.low = buffers("low", (n, size_bytes // 2), torch.int16)
        self.q = buffers("q", (n, 2 * size_bytes), torch.int8)
        ordered = self.q.view(_RUN).view(-1, 2, runs)
        self._moves = (
            (ordered[:, 0], self.low.view(_RUN).view(-1, runs)),
            (ordered[:, 1], self.packed.view(_RUN).view(-1, runs)),
        )

    def split(self) -> None:
        """Make `q` of `packed`, which is overwritten: 0 to 15."""
        torch.bitwise_and(self.packed, _NIBBLES, out=self.low)
        self.packed.bitwise_right_shift_(_FOUR).bitwise_and_(_NIBBLES)
        self.join()

    def split_signed(self) -> None:
        """The same, of nibbles in two's complement: 16 times -8 to 7."""
        torch.bitwise_left_shift(self.packed, _FOUR, out=self.low)
        self.low.bitwise_and_(_HIGH_NIBBLES)
        self.packed.bitwise_and_(_HIGH_NIBBLES)
        self.join()

    def join(self) -> None:
        """Put both halves in order."""
        for ordered, half in self._moves:
            ordered.copy_(half)


def _words(raw: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return bytes of every block as int16, a view."""
    return raw.view(torch.int16)[:, start // 2 : stop // 2]


def _half(raw: torch.Tensor, at: int) -> torch.Tensor:
    """Return the float16 at a byte of every block, (n, 1), a view."""
    return raw.view(torch.float16)[:, at // 2 : at // 2 + 1]


def _q4_0(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    # A block is a float16 and 16 bytes. q is 16 times what it should be, and its scale a sixteenth:
    # that leaves nibbles where the sign bit of a byte is. Copied as a whole first: memory that is
    # not in a cache yet is slow to read with gaps.
    halves = _Halves(n, 16, 1, buffers)
    copy = buffers("copy", (n, 9), torch.int16)
    packed, stored = copy[:, 1:], copy[:, :1].view(torch.float16)
    scale = buffers("scale", (n, 1), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        copy.copy_(raw.view(torch.int16))
        halves.packed.copy_(packed).bitwise_xor_(_SIGNED)
        halves.split_signed()
        scale.copy_(stored).mul_(_SIXTEENTH)

    return Unpacked(halves.q.view(n, 1, 32), scale.view(n, 1, 1), None), fill


def _q4_1(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    halves = _Halves(n, 16, 1, buffers)
    scale = buffers("scale", (n, 1), torch.float32)
    low = buffers("minimum", (n, 1), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        halves.packed.copy_(_words(raw, 4, 20))
        halves.split()
        scale.copy_(_half(raw, 0))
        low.copy_(_half(raw, 2)).neg_()

    return Unpacked(halves.q.view(n, 1, 32), scale.view(n, 1, 1), low.view(n, 1, 1)), fill


def _five_bits(n: int, at: int, buffers: Buffers) -> tuple[torch.Tensor, Fill]:
    """Return five bits for each of 32 weights, whose fifth ones are four bytes at `at`."""
    halves = _Halves(n, 16, 1, buffers)
    index = buffers("index", (n, 4), torch.int32)
    fifth = buffers("fifth", (n * 4,), torch.int64)
    flat_index, flat_q = index.view(-1), halves.q.view(torch.int64).view(-1)

    def fill(raw: torch.Tensor) -> None:
        halves.packed.copy_(_words(raw, at + 4, at + 20))
        halves.split()
        index.copy_(raw[:, at : at + 4])
        torch.index_select(_SPREAD, 0, flat_index, out=fifth)
        flat_q.bitwise_or_(fifth)

    return halves.q, fill


def _q5_0(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    q, fill_q = _five_bits(n, 2, buffers)
    scale = buffers("scale", (n, 1), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        fill_q(raw)
        q.sub_(16)
        scale.copy_(_half(raw, 0))

    return Unpacked(q.view(n, 1, 32), scale.view(n, 1, 1), None), fill


def _q5_1(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    q, fill_q = _five_bits(n, 4, buffers)
    scale = buffers("scale", (n, 1), torch.float32)
    low = buffers("minimum", (n, 1), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        fill_q(raw)
        scale.copy_(_half(raw, 0))
        low.copy_(_half(raw, 2)).neg_()

    return Unpacked(q.view(n, 1, 32), scale.view(n, 1, 1), low.view(n, 1, 1)), fill


def _q8_0(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    words = buffers("words", (n, 16), torch.int16)
    scale = buffers("scale", (n, 1), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        words.copy_(_words(raw, 2, 34))
        scale.copy_(_half(raw, 0))

    return Unpacked(words.view(torch.int8).view(n, 1, 32), scale.view(n, 1, 1), None), fill


def _scales_and_lows(n: int, buffers: Buffers) -> tuple[torch.Tensor, torch.Tensor, Fill]:
    """Return scales and lows of the eight groups of a K block, each (n, 8, 1) float32.

    Twelve bytes hold six bits for each, four groups at a time: the lower six bits of the first four
    bytes (scales) and the next four (lows) are the groups 0 to 3; groups 4 to 7 have four bits in
    the last four bytes, and their upper two bits are the upper two of the first eight.
    """
    both = buffers("both", (n, 2, 8), torch.float32)
    six = buffers("six", (n, 4), torch.int32)
    six_bytes = six.view(torch.uint8).view(n, 2, 8)

    def fill(raw: torch.Tensor) -> None:
        first, second, third = raw.view(torch.int32)[:, 1:4].unbind(1)
        six[:, 0] = first & 0x3F3F3F3F
        six[:, 1] = (third & 0x0F0F0F0F) | ((first >> 2) & 0x30303030)
        six[:, 2] = second & 0x3F3F3F3F
        six[:, 3] = ((third >> 4) & 0x0F0F0F0F) | ((second >> 2) & 0x30303030)
        both.copy_(six_bytes).mul_(raw.view(torch.float16)[:, :2].to(torch.float32)[:, :, None])

    return both[:, 0].view(n, 8, 1), both[:, 1].view(n, 8, 1), fill


def _q4_k(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    halves = _Halves(n, 128, 2, buffers)
    scale, low, fill_scales = _scales_and_lows(n, buffers)

    def fill(raw: torch.Tensor) -> None:
        halves.packed.copy_(_words(raw, 16, 144))
        halves.split()
        fill_scales(raw)

    return Unpacked(halves.q.view(n, 8, 32), scale, low), fill


def _q5_k(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    halves = _Halves(n, 128, 2, buffers)
    scale, low, fill_scales = _scales_and_lows(n, buffers)
    bits = buffers("fifth", (n, 16), torch.int16)
    add_bits = _upper_bits(halves.q.view(n, 8, 32), bits.view(n, 1, 16), 1, buffers)

    def fill(raw: torch.Tensor) -> None:
        halves.packed.copy_(_words(raw, 48, 176))
        halves.split()
        bits.copy_(_words(raw, 16, 48))
        add_bits()
        fill_scales(raw)

    return Unpacked(halves.q.view(n, 8, 32), scale, low), fill


def _q6_k(n: int, buffers: Buffers) -> tuple[Unpacked, Fill]:
    halves = _Halves(n, 128, 4, buffers)
    bits = buffers("fifth", (n, 32), torch.int16)
    add_bits = _upper_bits(halves.q.view(n * 2, 4, 32), bits.view(n * 2, 1, 16), 2, buffers)
    scale = buffers("both", (n, 16), torch.float32)

    def fill(raw: torch.Tensor) -> None:
        halves.packed.copy_(_words(raw, 0, 128))
        halves.split()
        bits.copy_(_words(raw, 128, 192))
        add_bits()
        halves.q.sub_(32)
        scale.copy_(raw.view(torch.int8)[:, 192:208])
        scale.mul_(_half(raw, 208).to(torch.float32))

    return Unpacked(halves.q.view(n, 16, 16), scale.view(n, 16, 1), None), fill


def _upper_bits(
    q: torch.Tensor, bits: torch.Tensor, count: int, buffers: Buffers
) -> Callable[[], object]:
    """Return what puts the groups' upper bits above their nibbles.

    Args:
        q: (n, groups, 32) int8, which is changed.
        bits: (n, 1, 16) int16: group g's bits are `count` bits of each byte, from bit g * count.
        count: 1 or 2.
        buffers: for the bits on their way.
    """
    n = len(q)
    mask = torch.tensor((2**count - 1) * 0x1010, dtype=torch.int16)
    group, upper = bits.view(n, 16), buffers("upper", (n, 16), torch.int16)
    places = q.view(torch.int16).unbind(1)  # (n, 16) of each group

    def add() -> None:
        for index, place in enumerate(places):
            shift = 4 - index * count
            if shift >= 0:
                torch.bitwise_left_shift(group, shift, out=upper)
            else:
                torch.bitwise_right_shift(group, -shift, out=upper)
            place.bitwise_or_(upper.bitwise_and_(mask))

    return add


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
