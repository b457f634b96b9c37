"""Integers of few bits with one float32 scale for each block of entries, rounded stochastically.

Block-wise absmax as in Dettmers et al. 2022, *8-bit Optimizers via Block-wise Quantization*
(arXiv 2110.02861): one large entry coarsens its own block only. Stochastic rounding as in
Alistarh et al. 2017, *QSGD* (arXiv 1610.02132): unbiased, so that the errors of many devices
cancel in their mean, and that steps smaller than half a quantum aren't lost every round, as
rounding to nearest would lose them. The price is at most twice the error on a single tensor.
"""

import numpy as np
from numpy.typing import NDArray

from wire.codecs.contract import Array, Shape, entries
from wire.errors import MalformedError

_SMALLEST = np.finfo(np.float32).tiny  # below it a scale loses precision


class BlockwiseIntegers:
    """A codec; first all scales, then all integers.

    Args:
        name: of the codec.
        bits: of an integer, 8, or 4 for two in a byte, the first in its lower half.
        block: entries of one scale.
    """

    def __init__(self, name: str, *, bits: int, block: int) -> None:
        self.name = name
        self.biased = False
        self.bits_per_parameter = bits + 32.0 / block
        self._packed = bits == 4
        self._block = block
        self._levels = 2 ** (bits - 1) - 1
        # The greatest integer times this scale is still finite.
        greatest = np.float32(np.finfo(np.float32).max / self._levels)
        self._largest = np.nextafter(greatest, np.float32(0))

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return the scales of the flattened tensor's blocks, and the integers."""
        flat = np.ravel(np.asarray(tensor, dtype=np.float32))
        scale = self._scales(flat)
        steps = flat / np.repeat(scale, self._block)[: flat.size]
        lower = np.floor(steps)
        # The fraction is the chance of going up: an entry on the grid stays where it is.
        steps = lower + (rng.random(flat.size, dtype=np.float32) < steps - lower)
        quanta = np.clip(steps, -self._levels, self._levels).astype(np.int8)
        return scale.astype("<f4").tobytes() + self._pack(quanta).tobytes()

    def most_bytes(self, shape: Shape) -> int:
        """Return the exact size: it depends on the shape alone."""
        count = entries(shape)
        return 4 * -(-count // self._block) + (-(-count // 2) if self._packed else count)

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return integers times scales."""
        count = entries(shape)
        if len(data) != self.most_bytes(shape):
            raise MalformedError(f"{len(data)} bytes are not {count} entries in {self.name}.")
        blocks = -(-count // self._block)
        scale = np.frombuffer(data, dtype="<f4", count=blocks)
        quanta = self._unpack(np.frombuffer(data, dtype=np.uint8, offset=4 * blocks), count)
        # Scales from the network may overflow; the caller refuses what isn't finite.
        with np.errstate(over="ignore", invalid="ignore"):
            quanta *= np.repeat(scale, self._block)[:count]
        return quanta.reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return one quantum of the coarsest block, with the rounding of float32 itself."""
        scale = self._scales(np.ravel(tensor))
        return float(np.max(scale, initial=0.0)) * (1.0 + 2.0**-15)

    def _scales(self, flat: Array) -> Array:
        """Return each block's largest magnitude over the levels, a normal float32 number."""
        blocks = -(-flat.size // self._block)
        padded = np.zeros(blocks * self._block, dtype=np.float32)
        padded[: flat.size] = np.abs(flat)
        largest = padded.reshape(blocks, self._block).max(axis=1)  # (blocks,)
        scales = np.clip(largest / np.float32(self._levels), _SMALLEST, self._largest)
        found: Array = scales.astype(np.float32)
        return found

    def _pack(self, quanta: NDArray[np.int8]) -> NDArray[np.uint8]:
        if not self._packed:
            return quanta.view(np.uint8)
        halves = np.zeros(2 * -(-quanta.size // 2), dtype=np.uint8)
        halves[: quanta.size] = quanta.view(np.uint8) & 0x0F
        found: NDArray[np.uint8] = halves[::2] | (halves[1::2] << np.uint8(4))
        return found

    def _unpack(self, data: NDArray[np.uint8], count: int) -> Array:
        if not self._packed:
            return data.view(np.int8).astype(np.float32)
        halves: NDArray[np.uint8] = np.stack(
            [data & np.uint8(0x0F), data >> np.uint8(4)], axis=1
        ).reshape(-1)[:count]
        signed = (halves ^ np.uint8(8)).astype(np.float32)  # two's complement of four bits
        signed -= 8.0
        return signed
