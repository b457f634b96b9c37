"""Training without backprop: an update is one number for each of some directions all sides know.

A device measures the loss on both sides of a direction and goes as far along it as pays (Spall
1992, *Multivariate Stochastic Approximation Using a Simultaneous Perturbation Gradient
Approximation*; Malladi et al. 2023, arXiv 2305.17333). What it learnt is the sum of its steps, so
that only their lengths travel, whatever the model's size, and the hub makes the sum to the last
bit: two bytes a direction.

Here a direction lies in one core (`wire.core_directions`), so that the loss's curvature along it is
that of one matrix: some are thousands of times as steep as others. In a pass every core is met
once, in an order from the seed. The directions of a core, pass after pass, are the rows of a
Walsh-Hadamard matrix with the signs of its columns drawn: orthogonal, until all have been used.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wire.directions import bits, order
from wire.errors import MalformedError, TooLargeError

Doubles = NDArray[np.float64]

#: Of the directions and of the bytes below: another one must never be taken for this.
VERSION = 1
MAX_DIRECTIONS = 500
_MAGIC = b"LKF" + bytes([VERSION])
_COUNT_BYTES = 2
#: Of an update.
MOST_BYTES = len(_MAGIC) + _COUNT_BYTES + 2 * MAX_DIRECTIONS
#: Below it are the orders of the cores, by pass; above it the signs, by sweep.
_SIGNS = 1 << 32


class Moves:
    """Where cores have come to, step by step.

    Args:
        seed: of the directions.
        sides: of each core, in the order of the targets' names.

    Raises:
        ValueError: there is no core.
    """

    def __init__(self, seed: int, sides: Sequence[int]) -> None:
        if not sides or min(sides) < 1:
            raise ValueError(f"cores have sides {list(sides)[:9]}; one of 1 or more is needed.")
        self._seed = seed
        #: Of a core, as many entries as the greatest power of two that it has room for.
        self._entries = [1 << (side * side).bit_length() - 1 for side in sides]
        self._starts = np.cumsum([0, *(side * side for side in sides)]).tolist()
        self._values = np.zeros(self._starts[-1], dtype=np.float64)
        self.steps = 0
        self._signs = lru_cache(maxsize=2)(self._signs_of)
        self._order = lru_cache(maxsize=1)(self._order_of)

    @property
    def numbers(self) -> int:
        """Of all cores."""
        return len(self._values)

    @property
    def core(self) -> int:
        """Which core the next direction lies in."""
        turn, at = divmod(self.steps, len(self._entries))
        return int(self._order(turn)[at])

    def along(self, distance: float) -> NDArray[np.float32]:
        """Return the moves of all cores, a distance further along the next direction.

        Returns:
            (numbers,) core by core, each in C order. It is the caller's own.
        """
        values = self._values.copy()
        where, signs = self._direction()
        values[where] += distance * signs
        return values.astype(np.float32)

    def step(self, distance: float) -> None:
        """Go along the next direction."""
        where, signs = self._direction()
        self._values[where] += distance * signs
        self.steps += 1

    def values(self) -> NDArray[np.float32]:
        """Return the moves of all cores, as `along`."""
        return self._values.astype(np.float32)

    def rms_along(self, distance: float) -> float:
        """Return the root mean square of the next direction's core, a distance further along it."""
        where, signs = self._direction()
        stop = self._starts[self.core + 1]
        move = self._values[where.start : stop].copy()
        move[: len(signs)] += distance * signs
        return math.sqrt(np.mean(move**2))

    def rms(self) -> float:
        """Return the greatest root mean square of a core's move."""
        cores = pairwise(self._starts)
        return max(math.sqrt(np.mean(self._values[start:stop] ** 2)) for start, stop in cores)

    def _direction(self) -> tuple[slice, Doubles]:
        """Return which entries the next direction has, and their signs."""
        core, turn = self.core, self.steps // len(self._entries)
        entries, start = self._entries[core], self._starts[core]
        sweep, row = divmod(turn, entries)
        where = slice(start, start + entries)
        walsh = [1.0 - 2.0 * ((column & row).bit_count() & 1) for column in range(entries)]
        return where, np.array(walsh) * self._signs(sweep)[where]

    def _signs_of(self, sweep: int) -> Doubles:
        drawn = bits(self._seed, _SIGNS + sweep, 0, len(self._values))
        signs: Doubles = 1.0 - 2.0 * drawn.astype(np.float64)
        return signs

    def _order_of(self, turn: int) -> NDArray[np.int64]:
        return order(self._seed, turn, len(self._entries))


def replay(seed: int, sides: Sequence[int], steps: Sequence[float]) -> Moves:
    """Return where steps lead, from the first direction on."""
    moves = Moves(seed, sides)
    for distance in steps:
        moves.step(distance)
    return moves


def rounded(distance: float) -> float:
    """Return a step as it travels: what a device tells is what it does."""
    return float(np.float16(distance))


def pack_steps(steps: Sequence[float]) -> bytes:
    """Return the steps of a round, in the order of its directions, as bytes.

    The bytes: ``LKF`` and the version, 1; their count as uint16; each as float16. Little-endian.

    Args:
        steps: as `rounded` gives them.

    Raises:
        ValueError: there are none or too many, or one is not finite or not rounded.
    """
    if not 0 < len(steps) <= MAX_DIRECTIONS:
        raise ValueError(f"there are {len(steps)} steps; 1 to {MAX_DIRECTIONS} can be sent.")
    numbers = np.asarray(steps, dtype=np.float64)
    packed = numbers.astype("<f2")
    if not np.array_equal(packed.astype(np.float64), numbers) or not np.isfinite(numbers).all():
        raise ValueError("a step is not finite, or was not rounded; what is sent must be done.")
    return _MAGIC + len(steps).to_bytes(_COUNT_BYTES, "little") + packed.tobytes()


def parse_steps(data: bytes, most: int) -> list[float]:
    """Return the steps that `pack_steps` wrote.

    Args:
        data: from the network.
        most: steps that were asked for.

    Raises:
        TooLargeError: more steps than were asked for, or than ever travel.
        MalformedError: another format or version, cut off, or a step is not finite.
    """
    head = len(_MAGIC) + _COUNT_BYTES
    if data[:3] == _MAGIC[:3] and data[:4] != _MAGIC:
        raise MalformedError(
            f"steps without backprop have version {data[3:4].hex() or 'none'}; this version reads "
            f"{VERSION}. Update the older side."
        )
    if len(data) < head or data[:4] != _MAGIC:
        raise MalformedError(f"steps begin with {data[:4]!r}; expected is {_MAGIC!r}.")
    count = int.from_bytes(data[4:head], "little")
    if not 0 < count <= min(most, MAX_DIRECTIONS):
        raise TooLargeError(f"there are {count} steps; 1 to {min(most, MAX_DIRECTIONS)} may come.")
    if len(data) != head + 2 * count:
        raise MalformedError(f"{count} steps have {len(data) - head} bytes; 2 each are needed.")
    steps = np.frombuffer(data, dtype="<f2", offset=head).astype(np.float64)
    if not np.isfinite(steps).all():
        raise MalformedError("a step is NaN or infinite.")
    found: list[float] = steps.tolist()
    return found
