"""What a codec is: bytes in place of one float32 tensor, with a known greatest error and size.

A new codec is a new file in this folder that defines ``CODEC``; `wire.codecs.catalogue` finds it
by the file's name, and the generic tests run over it.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]


class Codec(Protocol):
    """Compresses one tensor into bytes and expands them again, the same on every machine.

    Attributes:
        name: as it stands in offers and in packed sets; the name of the codec's file.
        bits_per_parameter: expected, of a large tensor of normally distributed entries.
        biased: whether what is lost must be carried to the next update (error feedback), for it
            doesn't vanish in the mean over devices and rounds.
    """

    name: str
    bits_per_parameter: float
    biased: bool

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return a finite tensor as bytes; ``rng`` is the only source of chance."""

    def most_bytes(self, shape: Shape) -> int:
        """Return how many bytes `compress` makes at most of a tensor of this shape."""

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return the tensor in memory of its own.

        The bytes come from the network, at most `most_bytes` of them: the result may hold NaN or
        infinities, which the caller refuses.

        Raises:
            MalformedError: `compress` makes no such bytes of a tensor of this shape.
        """

    def error_bound(self, tensor: Array) -> float:
        """Return the greatest absolute error of any entry that expanding may show."""


def entries(shape: Shape) -> int:
    """Return the number of entries of a tensor, exactly."""
    return int(np.prod(shape, dtype=object))
