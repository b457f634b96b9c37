"""Orthonormal rows, made or completed: the directions along which devices may train."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Array64 = NDArray[np.float64]

# A candidate that lies further than this inside what is there already is not a new direction.
_NEW_PART = 0.5
# In the last dimensions nearly all of a random direction lies inside.
_ANY_PART = 1e-6


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
    filled, width = rows.shape[0], int(rows.shape[1])
    free = min(count, width)  # rows that can be orthogonal
    basis = np.empty((count, width), dtype=np.float64)
    basis[:filled] = rows
    for candidate in candidates:
        if filled < free:
            filled += _append(candidate, basis, filled, _NEW_PART)
    rng = np.random.default_rng(seed)
    while filled < free:
        filled += _append(rng.standard_normal(width), basis, filled, _ANY_PART)
    for spare in range(filled, count):
        row = rng.standard_normal(width)
        basis[spare] = row / np.linalg.norm(row)
    return basis


def seed_of(seed: int, name: str) -> int:
    """Return a seed for one named tensor of a job: the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _append(direction: Array64, basis: Array64, filled: int, new_part: float) -> bool:
    """Put the part outside the first ``filled`` rows behind them, if it is large enough."""
    norm = float(np.linalg.norm(direction))
    if norm == 0:
        return False
    row = _outside(direction / norm, basis[:filled])
    left = float(np.linalg.norm(row))
    if left < new_part:
        return False
    row = _outside(row / left, basis[:filled])  # twice is enough: the first time rounds
    basis[filled] = row / np.linalg.norm(row)
    return True


def _outside(row: Array64, basis: Array64) -> Array64:
    """Return the part of ``row`` that is orthogonal to the rows of ``basis``."""
    outside: Array64 = row - basis.T @ (basis @ row)
    return outside
