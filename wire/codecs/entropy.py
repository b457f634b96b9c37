"""A uniform quantiser with a step of two standard deviations, entropy-coded: 1.3 bits a parameter.

At low rates, a uniform quantiser whose levels are entropy-coded is close to the best there is
(Gish and Pierce, 1968, *Asymptotically efficient quantizing*; Sullivan, 1996, *Efficient scalar
quantization of exponential and Laplacian random variables*). Most entries become 0. What is left
is scaled so that the tensor's part along itself keeps its length: <x', x> = <x, x>. The
least-squares fit would be nearer to a single tensor, but shorter than it, by a quarter here, and
what all of them lack the mean over the devices lacks, too. Rounding is to nearest: no chance is
used. ADR 11 has the measurements.

The bytes: scale as float32; the greatest level K as one byte; the frequency of each level 1 to K,
which a negative level shares, as uint16; the levels in `wire.rans`. A tensor of zeros has no bytes.
"""

import numpy as np
from numpy.typing import NDArray

from wire import rans
from wire.codecs.contract import Array, Codec, Shape, entries
from wire.errors import MalformedError

#: Of the quantiser, in standard deviations (root mean square) of the tensor.
STEP = 2.0
#: An entry that is further out is brought in: normally none is.
_MOST_LEVELS = 127
_HALF_SLACK = 2.0**-20
_SCALE_BYTES, _COUNT_BYTES, _FREQUENCY_BYTES = 4, 1, 2
_TOTAL = 1 << rans.PRECISION_BITS


class Entropy:
    """About 1.3 bits a parameter where entries are normally distributed."""

    name = "entropy"
    bits_per_parameter = 1.25
    biased = False

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return scale, frequencies and levels; ``rng`` is not drawn from."""
        del rng
        flat = np.ravel(np.asarray(tensor, dtype=np.float64))
        levels = _levels(flat)
        if not levels.any():
            return b""
        scale = _scale(flat, levels)
        most = int(np.abs(levels).max())
        counts = np.bincount(np.abs(levels).astype(np.int64), minlength=most + 1)
        each = _halved(counts)
        head: bytes = scale.astype("<f4").tobytes() + bytes([most]) + each.astype("<u2").tobytes()
        head += rans.encode(levels.astype(np.int64) + most, _mirrored(each))
        return head

    def most_bytes(self, shape: Shape) -> int:
        """Return what levels of equal frequency would take."""
        head = _SCALE_BYTES + _COUNT_BYTES + _FREQUENCY_BYTES * _MOST_LEVELS
        return head + rans.most_bytes(entries(shape))

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return levels times scale."""
        count = entries(shape)
        if not data:
            return np.zeros(shape, dtype=np.float32)
        start = _SCALE_BYTES + _COUNT_BYTES
        most = data[_SCALE_BYTES] if len(data) > _SCALE_BYTES else 0
        stop = start + _FREQUENCY_BYTES * most
        if not 1 <= most <= _MOST_LEVELS or len(data) < stop:
            raise MalformedError(f"{len(data)} bytes with {most} levels are not an entropy code.")
        scale = np.frombuffer(data, dtype="<f4", count=1)[0]
        each = np.frombuffer(data, dtype="<u2", offset=_SCALE_BYTES + _COUNT_BYTES, count=most)
        if 2 * int(each.sum(dtype=np.int64)) > _TOTAL:
            raise MalformedError(f"the frequencies of {most} levels add up to too much.")
        levels = rans.decode(data[stop:], count, _mirrored(each)) - most
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what isn't finite
            return (levels.astype(np.float32) * np.float32(scale)).reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return half a step, and what rescaling moves the outermost level, or brings it in."""
        flat = np.ravel(np.asarray(tensor, dtype=np.float64))
        levels = _levels(flat)
        step = _step(flat)
        largest = float(np.abs(flat).max(initial=0.0))
        if not levels.any():
            return largest
        scale = float(_scale(flat, levels))
        most = float(np.abs(levels).max())
        brought_in = max(0.0, largest - (most + 0.5) * step)
        return ((0.5 + _HALF_SLACK) * step + abs(scale - step) * most + brought_in) * (
            1.0 + 2.0**-15
        )


def _step(flat: NDArray[np.float64]) -> float:
    return STEP * float(np.sqrt(np.mean(np.square(flat)))) if flat.size else 0.0


def _levels(flat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the level of each entry, an integer."""
    step = _step(flat)
    if step == 0.0:
        return np.zeros_like(flat)
    # Half up, and a little less than half, too: entries of one magnitude are all half a step.
    away = np.floor(np.abs(flat) / step + 0.5 + _HALF_SLACK)
    levels: NDArray[np.float64] = np.copysign(np.minimum(away, _MOST_LEVELS), flat)
    return levels


def _scale(flat: NDArray[np.float64], levels: NDArray[np.float64]) -> np.float32:
    """Return what keeps the length along the tensor, with the outermost level still finite."""
    fit = float((flat @ flat) / (flat @ levels))
    greatest = float(np.finfo(np.float32).max) / float(np.abs(levels).max())
    return np.float32(min(fit, greatest * (1.0 - 2.0**-20)))


def _halved(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the frequency of each sign of the levels 1 to K; level 0 gets what is left of 4096."""
    frequency = rans.frequencies(counts)
    each = np.where(counts[1:] > 0, np.maximum(frequency[1:] // 2, 1), 0)
    while counts[0] and 2 * int(each.sum()) >= _TOTAL:
        each[each.argmax()] -= 1
    return each


def _mirrored(each: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the frequencies of all levels, from -K to K."""
    one_side = each.astype(np.int64)
    zero = _TOTAL - 2 * int(one_side.sum())
    return np.concatenate([one_side[::-1], [zero], one_side])


CODEC: Codec = Entropy()
