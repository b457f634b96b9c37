"""8-bit integers with one float32 scale for each block of 64 entries, rounded stochastically.

Block-wise absmax as in Dettmers et al. 2022, *8-bit Optimizers via Block-wise Quantization*
(arXiv 2110.02861): one large entry coarsens its own block only. Stochastic rounding as in
Alistarh et al. 2017, *QSGD* (arXiv 1610.02132): unbiased, so that the errors of many devices
cancel in their mean, and that steps smaller than half a quantum aren't lost every round, as
rounding to nearest would lose them. The price is at most twice the error on a single tensor.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.codecs.contract import Array, Codec, PartSpec, Shape

BLOCK = 64
_LEVELS = 127
_SMALLEST = np.finfo(np.float32).tiny  # below it a scale loses precision
# 127 times this scale is still finite: blocks up to the largest float32 survive.
_LARGEST = np.nextafter(np.float32(np.finfo(np.float32).max / _LEVELS), np.float32(0))


class Int8:
    """8.5 bits a parameter."""

    name = "int8"
    bits_per_parameter = 8.0 + 32.0 / BLOCK

    def compress(self, tensor: Array, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return the integers, in the tensor's shape, and the scales of the flattened blocks."""
        flat = np.ravel(np.asarray(tensor, dtype=np.float32))
        scale = _scales(flat)
        steps = flat / np.repeat(scale, BLOCK)[: flat.size]
        lower = np.floor(steps)
        # The fraction is the chance of going up: an entry on the grid stays where it is.
        steps = lower + (rng.random(flat.size, dtype=np.float32) < steps - lower)
        quanta = np.clip(steps, -_LEVELS, _LEVELS).astype(np.int8)
        return {"int8": quanta.reshape(tensor.shape), "scale": scale}

    def parts(self, shape: Shape) -> dict[str, PartSpec]:
        """Return the integers' and the scales' types and sizes."""
        entries = int(np.prod(shape, dtype=object))
        return {
            "int8": PartSpec(np.dtype(np.int8), shape),
            "scale": PartSpec(np.dtype(np.float32), (-(-entries // BLOCK),)),
        }

    def expand(self, parts: Mapping[str, NDArray[Any]], shape: Shape) -> Array:
        """Return integers times scales."""
        quanta: Array = np.ravel(parts["int8"]).astype(np.float32)
        # Scales from the network may overflow; the caller refuses what isn't finite.
        with np.errstate(over="ignore", invalid="ignore"):
            quanta *= np.repeat(parts["scale"], BLOCK)[: quanta.size]
        return quanta.reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return one quantum of the coarsest block, with the rounding of float32 itself."""
        scale = _scales(np.ravel(tensor))
        return float(np.max(scale, initial=0.0)) * (1.0 + 2.0**-15)


def _scales(flat: Array) -> Array:
    """Return each block's largest magnitude over 127, kept within float32's normal numbers."""
    blocks = -(-flat.size // BLOCK)
    padded = np.zeros(blocks * BLOCK, dtype=np.float32)
    padded[: flat.size] = np.abs(flat)
    largest = padded.reshape(blocks, BLOCK).max(axis=1)  # (blocks,)
    scales: Array = np.clip(largest / np.float32(_LEVELS), _SMALLEST, _LARGEST).astype(np.float32)
    return scales


CODEC: Codec = Int8()
