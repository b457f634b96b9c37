"""bfloat16: the upper half of a float32, rounded to nearest, ties to even.

Kalamkar et al. 2019, *A Study of BFLOAT16 for Deep Learning Training* (arXiv 1905.12322). Stored
as little-endian uint16, because numpy has no bfloat16. Eight bits of significand: a relative error
of at most 2⁻⁸, which averaging over devices makes smaller still.
"""

import numpy as np

from wire.codecs.contract import Array, Codec, Shape, entries
from wire.errors import MalformedError

_MAGNITUDE = np.uint32(0x7FFF_FFFF)
_SIGN = np.uint16(0x8000)
_LARGEST = np.uint16(0x7F7F)  # the largest finite bfloat16, 3.39e38


class Bfloat16:
    """Two bytes a parameter."""

    name = "bf16"
    bits_per_parameter = 16.0
    biased = False

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return the rounded upper halves; ``rng`` is not drawn from."""
        del rng
        bits = np.ravel(np.asarray(tensor, dtype=np.float32)).view(np.uint32)
        magnitude = bits & _MAGNITUDE
        # Adding half an ulp, less one where the kept half is even, makes the shift round to
        # nearest even.
        rounded = (magnitude + np.uint32(0x7FFF) + ((magnitude >> 16) & 1)) >> 16
        # What would round up to infinity stays the largest finite number.
        half = np.minimum(rounded.astype(np.uint16), _LARGEST)
        half |= (bits >> 16).astype(np.uint16) & _SIGN
        return half.astype("<u2").tobytes()

    def most_bytes(self, shape: Shape) -> int:
        """Return two bytes for each entry."""
        return 2 * entries(shape)

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return the upper halves with zeros below: exact."""
        if len(data) != self.most_bytes(shape):
            raise MalformedError(f"{len(data)} bytes are not {entries(shape)} bfloat16 numbers.")
        bits = np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return half an ulp of the largest entry, or of a subnormal number."""
        largest = float(np.max(np.abs(tensor), initial=0.0))
        return max(largest * 2.0**-8, 2.0**-134)


CODEC: Codec = Bfloat16()
