"""The largest thirty-second of a tensor's entries, the rest left out: 0.28 bits a parameter.

Stich et al. 2018, *Sparsified SGD with Memory* (arXiv 1809.07599): k entries of the largest
magnitude. What is left out must not be forgotten: the codec is biased, and the device keeps what
an update lacks for the next one (`edge_agent.training.feedback`; ADR 13 has the measurements).

Where the entries stand is a sorted list; its gaps are geometrically distributed, for which Golomb
1966, *Run-length encodings*, is close to the best there is, here with a power of two as its
parameter (Rice and Plaunt 1971). Magnitudes above the smallest one kept fall off in much the same
way: they are counted in steps of their mean excess, in unary. Four levels or more take half a bit
more than signs alone, and save as much error as two bits spent on further entries would.

The bytes: magnitude of level 0 and step as float32; the number of entries k as uint32; the bits r
of a gap's lower part as one byte; then bits, the first in a byte's highest place: k signs, k lower
parts of r bits (highest first), k upper parts and k levels in unary (zeros and a one), zeros to the
byte's end. A tensor of zeros has no bytes. Sums are exact, so all machines write the same.
"""

import math

import numpy as np
from numpy.typing import NDArray

from wire.codecs.contract import Array, Codec, Shape, entries
from wire.errors import MalformedError

#: Of the entries, one in so many is kept, but never fewer than `_FEWEST`.
SPARSITY = 32
_FEWEST = 8
_HEAD = np.dtype([("lowest", "<f4"), ("step", "<f4"), ("count", "<u4"), ("low_bits", "u1")])
#: Signs, ends of upper parts and levels, and what these add up to; with room for rounding.
_BITS_BESIDE_LOW = 7
_LARGEST = float(np.finfo(np.float32).max)

Bits = NDArray[np.uint8]
Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


class TopK:
    """About 0.28 bits a parameter."""

    name = "topk"
    bits_per_parameter = 0.284
    biased = True

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return where the largest entries stand, and their coarse values; no chance is used."""
        del rng
        flat = np.ravel(np.asarray(tensor, dtype=np.float32))
        at = _largest(np.abs(flat))
        if not at.size:
            return b""
        lowest, step, levels = _levels(np.abs(flat[at]).astype(np.float64))
        gaps = np.diff(at, prepend=-1) - 1
        low_bits = _low_bits(gaps)
        head = np.array([(lowest, step, at.size, low_bits)], dtype=_HEAD)
        place = np.arange(low_bits - 1, -1, -1)
        bits = np.concatenate(
            [
                np.signbit(flat[at]).view(np.uint8),
                (gaps[:, None] >> place & 1).astype(np.uint8).ravel(),
                _unary(gaps >> low_bits),
                _unary(levels),
            ]
        )
        return head.tobytes() + np.packbits(bits).tobytes()

    def most_bytes(self, shape: Shape) -> int:
        """Return a bound: gaps with the parameter for evenly spread entries, and all that follows.

        Upper parts then add up to twice k at most, and levels, in steps of their mean, to k.
        """
        count = entries(shape)
        kept = _kept(count)
        if not kept:
            return _HEAD.itemsize
        bits = kept * (_BITS_BESIDE_LOW + (count // kept).bit_length())
        return _HEAD.itemsize + -(-(bits + min(count, 8 * SPARSITY)) // 8)

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return zeros with the entries that were kept."""
        count = entries(shape)
        flat = np.zeros(count, dtype=np.float32)
        if not data:
            return flat.reshape(shape)
        if not _HEAD.itemsize < len(data) <= self.most_bytes(shape):
            raise MalformedError(f"{len(data)} bytes are not the largest of {count} entries.")
        head = np.frombuffer(data, dtype=_HEAD, count=1)[0]
        kept, low_bits = int(head["count"]), int(head["low_bits"])
        if not 0 < kept <= _kept(count) or low_bits > count.bit_length():
            raise MalformedError(f"{kept} of {count} entries with {low_bits} bits are no code.")
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=_HEAD.itemsize))
        unary = kept * (1 + low_bits)
        numbers = _counted(bits[unary:], 2 * kept)
        at = _places(bits[kept:unary].reshape(kept, low_bits), numbers[:kept], count)
        values = _magnitudes(head["lowest"], head["step"], numbers[kept:])
        flat[at] = np.where(bits[:kept], -values, values)
        return flat.reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return the largest entry that is left out, or the largest error of one that is kept."""
        magnitude = np.abs(np.ravel(np.asarray(tensor, dtype=np.float32)))
        at = _largest(magnitude)
        if not at.size:
            return 0.0
        kept = magnitude[at].astype(np.float64)
        error = float(np.abs(_magnitudes(*_levels(kept)) - kept).max())
        return max(error, float(np.delete(magnitude, at).max(initial=0.0)))


def _kept(count: int) -> int:
    """Return how many entries are kept of so many."""
    return min(count, max(_FEWEST, -(-count // SPARSITY)))


def _largest(magnitude: Array) -> Integers:
    """Return the places of the largest entries that aren't 0, sorted; of equals the first ones."""
    kept = _kept(magnitude.size)
    if not kept:
        return np.zeros(0, dtype=np.int64)
    # A partition's order differs among machines; the k-th largest value does not.
    threshold = np.partition(magnitude, magnitude.size - kept)[magnitude.size - kept]
    chosen = magnitude > threshold
    if threshold > 0:
        equal = np.flatnonzero(magnitude == threshold)
        chosen[equal[: kept - int(np.count_nonzero(chosen))]] = True
    return np.flatnonzero(chosen).astype(np.int64)


def _levels(magnitude: Doubles) -> tuple[np.float32, np.float32, Integers]:
    """Return the magnitude of level 0, the step, and each entry's level.

    The first is what fits best in the sense of least squares, given step and levels: an entry comes
    nearer to what it was, and the codec is a contraction, as error feedback needs it.
    """
    excess = magnitude - magnitude.min()
    step = np.float32(math.fsum(excess) / excess.size)
    levels = np.zeros(excess.size, dtype=np.int64)
    if step >= np.finfo(np.float32).tiny:
        levels = np.floor(excess / np.float64(step)).astype(np.int64)
    lowest = math.fsum(magnitude - levels * np.float64(step)) / magnitude.size
    return np.float32(min(lowest, _LARGEST)), step, levels


def _magnitudes(lowest: np.float32, step: np.float32, levels: Integers) -> Array:
    """Return the magnitude of each level; the largest float32 is never passed."""
    with np.errstate(invalid="ignore"):  # the caller refuses what isn't a number
        found = np.float64(lowest) + levels * np.float64(step)
        return np.minimum(found, _LARGEST).astype(np.float32)


def _low_bits(gaps: Integers) -> int:
    """Return how many lower bits of each gap are written as they are, for the fewest bits."""
    costs = [int((gaps >> bits).sum()) + gaps.size * bits for bits in range(33)]
    return costs.index(min(costs))


def _unary(numbers: Integers) -> Bits:
    """Return each number as so many zeros and a one."""
    bits = np.zeros(int(numbers.sum()) + numbers.size, dtype=np.uint8)
    bits[np.cumsum(numbers + 1) - 1] = 1
    return bits


def _counted(bits: Bits, count: int) -> Integers:
    """Return the numbers written in unary, of which the last ends within the last byte."""
    ones = np.flatnonzero(bits)
    if len(ones) != count or bits.size - ones[-1] > 8:
        raise MalformedError(f"a code of {count} numbers in unary does not end as it should.")
    return np.diff(ones, prepend=-1) - 1


def _places(low: Bits, high: Integers, count: int) -> Integers:
    """Return the places that gaps lead to, each within the tensor."""
    low_bits = low.shape[1]
    if (high > count >> low_bits).any():  # before anything is shifted out of 64 bits
        raise MalformedError(f"a place lies outside a tensor of {count} entries.")
    weight = np.left_shift(np.int64(1), np.arange(low_bits - 1, -1, -1, dtype=np.int64))
    at: Integers = np.cumsum((high << low_bits) + low.astype(np.int64) @ weight + 1) - 1
    if at[-1] >= count:
        raise MalformedError(f"a place lies outside a tensor of {count} entries.")
    return at


CODEC: Codec = TopK()
