"""Orthonormal rows, made or completed: the directions along which devices may train."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Array64 = NDArray[np.float64]

# A candidate that lies further than this inside what is there already is not a new direction.
_NEW_PART = 0.5


def complete(rows: Array64, count: int, candidates: Array64, seed: int) -> Array64:
    """Append unit rows until there are ``count``, each orthogonal to the ones before.

    Candidates come first, in their order, as far as they point out of the span; seeded random
    directions follow. Once the rows span the whole space, further ones are only of unit length.

    Args:
        rows: orthonormal, (k, width) with k <= count; returned unchanged at the front.
        count: rows wanted.
        candidates: preferred directions, (m, width), of about unit length.
        seed: of the random directions.

    Returns:
        (count, width).
    """
    width = rows.shape[1]
    basis = np.empty((count, width), dtype=np.float64)
    filled = rows.shape[0]
    basis[:filled] = rows
    rng = np.random.default_rng(seed)
    preferred = iter(candidates)
    while filled < count:
        candidate = next(preferred, None)
        random = candidate is None
        if candidate is None:
            candidate = rng.standard_normal(width)
        norm = float(np.linalg.norm(candidate))
        if norm == 0 or (filled >= width and not random):
            continue
        row = candidate / norm
        if filled < width:
            row = _outside(row, basis[:filled])
            left = float(np.linalg.norm(row))
            # In the last dimensions nearly all of a random direction lies inside the span.
            if left < (1e-6 if random else _NEW_PART):
                continue
            row = _outside(row / left, basis[:filled])
            row /= np.linalg.norm(row)
        basis[filled] = row
        filled += 1
    return basis


def seed_of(seed: int, name: str) -> int:
    """Return a seed for one named tensor of a job: the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _outside(row: Array64, basis: Array64) -> Array64:
    """Return the part of ``row`` that is orthogonal to the rows of ``basis``."""
    outside: Array64 = row - basis.T @ (basis @ row)
    return outside
