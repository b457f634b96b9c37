"""The leading singular components of a matrix that is only ever multiplied, by block Krylov steps.

Golub and Underwood 1977 (*The block Lanczos method for computing eigenvalues*); Musco and Musco
2015 (arXiv 1504.05477) show that a few steps from random columns come as near to the best
approximation of a rank as one wants, whatever the spectrum. Each step is made orthogonal to all
before, twice, so that rounding does no harm; and a block that brings nothing new ends it: then all
is captured.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array64 = NDArray[np.float64]

#: Random columns besides as many as components are wanted.
_SPARE = 8
_MOST_STEPS = 12
#: A step that adds less than this share to what the components capture of the squares is the last.
_GAIN = 1e-11
#: A column is new if so much of it stands outside of the columns before.
_NEW = 1e-10


class Operator(Protocol):
    """A matrix of a known shape, (out, width)."""

    out: int
    width: int

    def times(self, columns: Array64) -> Array64:
        """Return the matrix times columns: (width, k) to (out, k)."""

    def transposed_times(self, columns: Array64) -> Array64:
        """Return the matrix, transposed, times columns: (out, k) to (width, k)."""


def leading(matrix: Operator, rank: int, near: Array64) -> tuple[Array64, Array64, Array64]:
    """Return the first singular components: U (out, k), values falling, Vᵀ (k, width); k <= rank.

    Args:
        matrix: of which they are.
        rank: how many are wanted at most.
        near: directions that are thought to be near to rows of Vᵀ, (m, width); they save steps.
    """
    near = near[:rank]
    spare = rank - len(near) + _SPARE
    drawn = np.random.default_rng(rank).standard_normal((matrix.width, spare))
    block = _outside(matrix.times(np.hstack([near.T, drawn])), [])
    found: list[Array64] = []
    rows: list[Array64] = []  # of matrixᵀ times each block
    captured = 0.0
    for _ in range(_MOST_STEPS):
        if not block.shape[1]:
            break
        found.append(block)
        rows.append(matrix.transposed_times(block))
        s = np.linalg.svd(np.hstack(rows), compute_uv=False)[:rank]
        gained, captured = float(np.square(s).sum()) - captured, float(np.square(s).sum())
        if gained <= _GAIN * captured:
            break
        block = _outside(matrix.times(rows[-1]), found)
    if not found:
        return np.zeros((matrix.out, 0)), np.zeros(0), np.zeros((0, matrix.width))
    v, s, ut = np.linalg.svd(np.hstack(rows), full_matrices=False)
    return np.hstack(found) @ ut[:rank].T, s[:rank], v[:, :rank].T


def _outside(columns: Array64, basis: list[Array64]) -> Array64:
    """Return orthonormal columns that span what of ``columns`` is not spanned by a basis."""
    scale = float(np.linalg.norm(columns))
    if scale == 0:
        return columns[:, :0]
    columns = columns / scale
    for _ in range(2):
        for block in basis:
            columns = columns - block @ (block.T @ columns)
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    new: Array64 = u[:, s > _NEW]
    for block in basis:  # what was small was divided by little
        new = new - block @ (block.T @ new)
    return np.linalg.qr(new)[0] if new.shape[1] else new
