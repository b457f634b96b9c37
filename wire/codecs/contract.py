"""What a codec is: named arrays in place of one float32 tensor, with a known greatest error.

A new codec is a new file in this folder that defines ``CODEC``; `wire.codecs.catalogue` finds it
by the file's name, and the generic tests run over it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Shape = tuple[int, ...]


class PartSpec(NamedTuple):
    """What the receiver must find for one part, before anything is expanded."""

    dtype: np.dtype[Any]
    shape: Shape


class Codec(Protocol):
    """Compresses one tensor into named parts and expands them again.

    Attributes:
        name: as it stands in offers and in packed files; the name of the codec's file.
        bits_per_parameter: of a large tensor, headers left out.
    """

    name: str
    bits_per_parameter: float

    def compress(self, tensor: Array, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return the parts of a finite tensor; ``rng`` is the only source of chance."""

    def parts(self, shape: Shape) -> dict[str, PartSpec]:
        """Return what `compress` makes of a tensor of this shape: types and sizes, exactly."""

    def expand(self, parts: Mapping[str, NDArray[Any]], shape: Shape) -> Array:
        """Return the tensor in memory of its own.

        The parts agree with `parts` in type and shape, but their values come from the network:
        the result may hold NaN or infinities, which the caller refuses.
        """

    def error_bound(self, tensor: Array) -> float:
        """Return the greatest absolute error of any entry that expanding may show."""
