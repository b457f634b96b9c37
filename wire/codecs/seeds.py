"""A tensor as a seed and one number for each of its directions, at most 256 of them.

For training without backprop, whose updates are such sums to begin with (`wire.directions`): an
update travels as what was measured along each direction, whatever the tensor's size. `pack_scalars`
takes the numbers that a trainer has. Any other tensor is brought as near as the directions come
(least squares), which is not near: of n entries, d random directions hold d / n of the energy. The
codec is biased, so that error feedback carries the rest.

The bytes: the seed as uint64, then a float32 for each direction, from direction 0 on. A tensor of
up to eight entries is those themselves, as float32; a tensor of zeros has no bytes. Expanding takes
at most 256 additions an entry, whatever the bytes say.
"""

from collections.abc import Sequence

import numpy as np

from wire.codecs.contract import Array, Codec, Shape, entries
from wire.directions import best_weights, weighted_sum
from wire.errors import MalformedError

#: More make the receiver work more for each entry.
MOST_DIRECTIONS = 256
#: Where a tensor is compressed that isn't such a sum: one direction for so many entries, at most
#: so many in all. Their normal equations take time with the square of their number.
_ENTRIES, _MOST_FITTED = 64, 128
_FEW = 8
_SEED_BYTES = 8
_LARGEST = float(np.finfo(np.float32).max)


class Seeds:
    """Half a bit a parameter of up to 8,192, then ever fewer: 0.03 of 131,072."""

    name = "seeds"
    bits_per_parameter = 0.032
    biased = True

    def compress(self, tensor: Array, rng: np.random.Generator) -> bytes:
        """Return a drawn seed and what is nearest in the span of its directions."""
        flat = np.ravel(np.asarray(tensor, dtype=np.float32))
        if not flat.any():
            return b""
        if flat.size <= _FEW:
            return flat.astype("<f4").tobytes()
        seed = int(rng.integers(0, 1 << 64, dtype=np.uint64))
        count = min(_MOST_FITTED, max(_FEW, -(-flat.size // _ENTRIES)))
        # Scaled, for squares of the largest numbers; by a power of two, which loses nothing.
        scale = 2.0 ** np.frexp(np.float64(np.abs(flat).max()))[1]
        scalars = best_weights(seed, count, (flat / scale).astype(np.float32)) * scale
        return pack_scalars(seed, np.clip(scalars, -_LARGEST, _LARGEST).tolist(), tensor.shape)

    def most_bytes(self, shape: Shape) -> int:
        """Return the seed and a number for each direction, of which a tensor has 256 at most."""
        count = entries(shape)
        return 4 * count if count <= _FEW else _SEED_BYTES + 4 * min(count, MOST_DIRECTIONS)

    def expand(self, data: bytes, shape: Shape) -> Array:
        """Return the sum of the directions, in double precision and rounded once."""
        count = entries(shape)
        if not data:
            return np.zeros(shape, dtype=np.float32)
        head = 0 if count <= _FEW else _SEED_BYTES
        right = head + 4 <= len(data) <= self.most_bytes(shape) and (len(data) - head) % 4 == 0
        if not right or (head == 0 and len(data) != 4 * count):
            raise MalformedError(f"{len(data)} bytes are no seed and scalars of {count} entries.")
        scalars = np.frombuffer(data, dtype="<f4", offset=head)
        if head == 0:
            return scalars.astype(np.float32).reshape(shape)
        seed = int.from_bytes(data[:head], "little")
        with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what isn't finite
            total = weighted_sum(seed, scalars.astype(np.float64).tolist(), count)
            # Rounding may carry an honest sum of the largest numbers beyond them.
            return np.clip(total, -_LARGEST, _LARGEST).astype(np.float32).reshape(shape)

    def error_bound(self, tensor: Array) -> float:
        """Return the length of the tensor: what is left out of it is shorter, so is any entry."""
        flat = np.ravel(np.asarray(tensor, dtype=np.float64))
        if flat.size <= _FEW:
            return 0.0
        return float(np.sqrt(np.square(flat).sum())) * (1.0 + 2.0**-15)


def pack_scalars(seed: int, scalars: Sequence[float], shape: Shape) -> bytes:
    """Return the bytes of a sum of directions that is known already.

    Args:
        seed: of `wire.directions`, 0 to 2**64 - 1.
        scalars: of direction 0, 1, ...; each is rounded to float32.
        shape: of the tensor, of more than eight entries.

    Raises:
        ValueError: there are too many or none, one isn't a float32 number, or the tensor is so
            small that `Seeds.compress` should take it.
    """
    count = entries(shape)
    if count <= _FEW:
        raise ValueError(f"a tensor of {count} entries takes no seed; compress it as it is.")
    if not 0 < len(scalars) <= min(count, MOST_DIRECTIONS):
        most = min(count, MOST_DIRECTIONS)
        raise ValueError(f"{len(scalars)} scalars of {count} entries; send 1 to {most}.")
    with np.errstate(over="ignore"):
        rounded = np.asarray(scalars, dtype=np.float64).astype("<f4")
    if not np.isfinite(rounded).all():
        raise ValueError("a scalar is NaN, infinite or beyond float32; it can't be sent.")
    return seed.to_bytes(_SEED_BYTES, "little") + rounded.tobytes()


CODEC: Codec = Seeds()
