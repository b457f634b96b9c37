"""float32 as it is: nothing is lost. For tests, for measuring other codecs, for fast links."""

import numpy as np

from wire.codecs.contract import Array, Codec, Shape, entries
from wire.errors import MalformedError

_NUMBER = np.dtype("<f4")


class Raw:
    """Four bytes a parameter."""

    name = "raw"
    bits_per_parameter = 32.0
    biased = False

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return the numbers themselves, little-endian; ``rng`` is not drawn from."""
        del rng
        return np.asarray(tensor, dtype=_NUMBER).tobytes()

    def most_bytes(self, shape: Shape) -> int:
        """Return four bytes for each entry."""
        return 4 * entries(shape)

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return a copy."""
        if len(data) != self.most_bytes(shape):
            raise MalformedError(f"{len(data)} bytes are not {entries(shape)} float32 numbers.")
        return np.frombuffer(data, dtype=_NUMBER).astype(np.float32).reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return 0."""
        del tensor
        return 0.0


CODEC: Codec = Raw()
