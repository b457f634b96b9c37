"""float32 as it is: nothing is lost. For tests, for measuring other codecs, for fast links."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.codecs.contract import Array, Codec, PartSpec, Shape


class Raw:
    """Four bytes a parameter."""

    name = "raw"
    bits_per_parameter = 32.0

    def compress(self, tensor: Array, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Return the tensor itself; ``rng`` is not drawn from."""
        del rng
        return {"fp32": tensor}

    def parts(self, shape: Shape) -> dict[str, PartSpec]:
        """Return the one part."""
        return {"fp32": PartSpec(np.dtype(np.float32), shape)}

    def expand(self, parts: Mapping[str, NDArray[Any]], shape: Shape) -> Array:
        """Return a copy."""
        return np.array(parts["fp32"], dtype=np.float32).reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return 0."""
        del tensor
        return 0.0


CODEC: Codec = Raw()
