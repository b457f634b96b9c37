"""What an update of low-rank factors lacks, expressed in the factors of another round.

What a device's update lacks is the difference of two low-rank products. With e = wanted − sent,
B' = B + sent_B and A' = A + wanted_A it is

    E = e_B A' + B' e_A = [e_B  B'] [A' ; e_A]

exactly, and so it is kept. The hub turns the factors in each round: it publishes B' Qᵀ and Q A' for
some orthogonal Q, but for what the others' updates and the truncation changed. Turned alike,

    (e_B Qᵀ)(Q A') + (B' Qᵀ)(Q e_A) = E

again. So Q is looked for, and e is turned by it: the orthogonal matrix that brings the old factors
nearest to the new ones, the polar factor of a small matrix (orthogonal Procrustes: Schönemann 1966,
*A generalized solution of the orthogonal Procrustes problem*). Where the rank differs, Q has
orthonormal rows or columns, and components that the device doesn't train any more are left out.

The nearest moves in product space, by pseudo-inverses of B and A (a projection onto the tangent
space), would fit E better and serve worse: where B has small singular values, as in all early
rounds, they are of any length. ADR 13 has the measurement. Nothing here is larger than a factor.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Product(NamedTuple):
    """A matrix ``left @ right``, (out, 2r) by (2r, in): [e_B, B'] and [A' ; e_A]."""

    left: Array
    right: Array


def difference(
    b: Array, a: Array, wanted: tuple[Array, Array], sent: tuple[Array, Array]
) -> Product:
    """Return what a product lacks that was moved by what was sent, exactly.

    With e = wanted − sent, (B + wanted_B)(A + wanted_A) − (B + sent_B)(A + sent_A) is
    e_B (A + wanted_A) + (B + sent_B) e_A.

    Args:
        b, a: the start, (out, r) and (r, in).
        wanted: moves of b and a that were meant.
        sent: moves of b and a that were made.
    """
    left = np.hstack([wanted[0] - sent[0], b + sent[0]])  # (out, 2r)
    right = np.vstack([a + wanted[1], wanted[1] - sent[1]])  # (2r, in)
    return Product(left, right)


def reproject(residual: Product, b: Array, a: Array) -> tuple[Array, Array]:
    """Return what a residual product asks of other factors to move by.

    Args:
        residual: of `difference`.
        b, a: the factors to move, (out, n) and (n, in); n may differ from r.

    Returns:
        Moves of b and a, of their shapes.

    Raises:
        numpy.linalg.LinAlgError: the decomposition fails, as it does for NaN.
    """
    rank = residual.left.shape[1] // 2
    e_b, old_b = _halves(residual.left, rank)
    old_a, e_a = (half.T for half in _halves(residual.right.T, rank))
    new_b, new_a = b.astype(np.float64), a.astype(np.float64)
    # Rows of A have unit norm and B has the scale: so both weigh alike in the product.
    weight = (np.square(new_b).mean() + np.square(old_b).mean()) * len(new_b) / 2.0
    near = new_b.T @ old_b + (weight or 1.0) * (new_a @ old_a.T)  # (n, r)
    u, _, vt = np.linalg.svd(near, full_matrices=False)
    turn = u @ vt
    return (e_b @ turn.T).astype(np.float32), (turn @ e_a).astype(np.float32)


def _halves(both: Array, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    double = both.astype(np.float64)
    return double[:, :rank], double[:, rank:]
