"""Directions from a seed: random signs that every machine makes alike, entry by entry.

Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*: Philox is a counter-based
generator, a keyed bijection of a counter, so that any part of any direction is made without what
lies before it. Here Philox 4x64 with ten rounds, as in Random123 and in numpy's `Philox`. Entry j
of direction i of a seed is bit ``j mod 64`` of word ``j div 64``; words come four at a time from
the counter ``j div 256`` under the key ``(seed, i)``. Bit 0 is +1, bit 1 is -1 (Rademacher).

Training without backprop moves along such directions only (Malladi et al. 2023, *Fine-Tuning
Language Models with Just Forward Passes*, arXiv 2305.17333), so that what it learnt is a seed and
one number for each of them (`wire.codecs.seeds`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK_BITS = 256
_COUNTERS = 1 << 256
#: Entries that are worked on at a time: 64 KiB as bytes, half a megabyte as double numbers.
_PIECE = 256 * 256

Doubles = NDArray[np.float64]


def bits(seed: int, index: int, start: int, stop: int) -> NDArray[np.uint8]:
    """Return part of a direction as bits: 0 is +1, 1 is -1.

    Args:
        seed: 0 to 2**64 - 1.
        index: of the direction, as the seed.
        start, stop: the entries' range; ``start`` is a multiple of 256.

    Returns:
        (stop - start,)

    Raises:
        ValueError: an argument is out of range.
    """
    for name, value in (("seed", seed), ("index", index)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f"{name} is {value}; it must be 0 to 2**64 - 1.")
    if start % _BLOCK_BITS or not 0 <= start <= stop:
        raise ValueError(f"entries {start} to {stop} were asked for; begin at a multiple of 256.")
    # numpy counts up before it makes a block, not afterwards.
    counter = (start // _BLOCK_BITS - 1) % _COUNTERS
    words = np.random.Philox(key=seed | index << 64, counter=counter).random_raw(
        -(-(stop - start) // 64)
    )
    return np.unpackbits(words.astype("<u8").view(np.uint8), count=stop - start, bitorder="little")


def order(seed: int, index: int, count: int) -> NDArray[np.int64]:
    """Return the numbers below ``count`` in an order that every machine draws alike.

    They are sorted by 64 bits of a direction each.

    Raises:
        ValueError: as for `bits`.
    """
    packed = np.packbits(bits(seed, index, 0, 64 * count), bitorder="little")
    return np.argsort(packed.view("<u8"), kind="stable").astype(np.int64)


def direction(seed: int, index: int, count: int) -> NDArray[np.float32]:
    """Return a whole direction, (count,) of +1 and -1.

    Raises:
        ValueError: as for `bits`.
    """
    found = bits(seed, index, 0, count).astype(np.float32)
    found *= -2.0
    found += 1.0
    return found


def weighted_sum(seed: int, weights: Sequence[float], count: int) -> Doubles:
    """Return the sum of directions 0, 1, ... with their weights, bit-exact on every machine.

    Each entry is summed in double precision in the order of the directions; the time taken is
    proportional to ``count * len(weights)``, the memory to ``count``.

    Args:
        seed: of the directions.
        weights: of each of them.
        count: entries of a direction.

    Returns:
        (count,)
    """
    total = np.zeros(count, dtype=np.float64)
    for start, stop in _pieces(count):
        part = total[start:stop]
        for index, weight in enumerate(weights):
            signed = np.array([weight, -weight], dtype=np.float64)
            part += signed[bits(seed, index, start, stop)]
    return total


def best_weights(seed: int, directions: int, tensor: NDArray[np.float32]) -> Doubles:
    """Return the weights whose sum of directions comes nearest to a tensor (least squares).

    The normal equations are solved, whose matrix holds whole numbers: exactly for a tensor in the
    span of the directions, up to rounding. Of several solutions the shortest is taken.

    Args:
        seed: of the directions.
        directions: how many.
        tensor: finite, of any shape; its entries in C order are those of a direction.

    Returns:
        (directions,)
    """
    flat = np.ravel(np.asarray(tensor, dtype=np.float64))
    gram = np.zeros((directions, directions), dtype=np.float64)
    along = np.zeros(directions, dtype=np.float64)
    for start, stop in _pieces(flat.size, _PIECE // 16):
        signs = np.stack([bits(seed, index, start, stop) for index in range(directions)])
        part = 1.0 - 2.0 * signs.astype(np.float32)  # (directions, piece)
        gram += part @ part.T  # whole numbers below 2**24: exact in float32
        along += part.astype(np.float64) @ flat[start:stop]
    found: Doubles = np.linalg.lstsq(gram, along, rcond=1e-10)[0].astype(np.float64)
    return found


def _pieces(count: int, size: int = _PIECE) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)
