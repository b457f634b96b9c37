"""A product's residual, expressed in the factors of another round.

What a device's update lacks is the difference of two low-rank products, E = L R. In the next round
it starts from other factors (B, A): the hub has truncated and turned them, and their rank may
differ. Moving them by (δB, δA) moves the product by B δA + δB A, and by δB δA, which is of second
order. So the wanted move is

    min |B δA + δB A − L R|² + λ (|δA|² + |δB|²)                                    (Frobenius)

With the thin singular value decompositions B = U S Vᵀ and A = X T Yᵀ, r singular values each, the
unknowns a = Vᵀ δA and b = δB X meet one equation for each entry of E seen in the bases (U, U⊥) and
(Y, Y⊥), and each of these is solved by itself:

    inside both, s_i a_ij + t_j b_ij = E_ij    a_ij, b_ij = (s_i, t_j) E_ij / (s_i² + t_j² + λ)
    inside U only,        s_i a_ij = E_ij      a_ij = s_i E_ij / (s_i² + λ)
    inside Y only,        t_j b_ij = E_ij      b_ij = t_j E_ij / (t_j² + λ)
    in neither: no move of the factors gets there, and this part of E is lost.

As λ falls, that is the projection of E onto the tangent space of the products at (B, A), by pseudo-
inverses, and of all moves that come to it the shortest. λ is small beside the squares of the
greatest singular values; where B is zero, as in a first round, δA = 0 and δB = E A⁺.

Nothing here is larger than a factor: no (out, in) matrix is made.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: Root of λ, beside the greatest singular value of both factors.
_RIDGE = 1e-3


class Product(NamedTuple):
    """A matrix ``left @ right``: (out, k) by (k, in)."""

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
    """Return the moves of b and a that come nearest to a product.

    Args:
        residual: L and R, of any inner width.
        b, a: the factors to move, (out, r) and (r, in).

    Returns:
        δB (out, r) and δA (r, in).

    Raises:
        numpy.linalg.LinAlgError: a decomposition fails, as it does for NaN.
    """
    left, right = residual.left.astype(np.float64), residual.right.astype(np.float64)
    u, s, vt = np.linalg.svd(b.astype(np.float64), full_matrices=False)
    x, t, yt = np.linalg.svd(a.astype(np.float64), full_matrices=False)
    ridge = (_RIDGE * max(s.max(initial=0.0), t.max(initial=0.0))) ** 2
    if ridge == 0.0:
        return np.zeros_like(b), np.zeros_like(a)
    from_u, to_y = u.T @ left, right @ yt.T  # (r, k), (k, r)
    inside = from_u @ to_y  # (r, r)
    shared = inside / (s[:, None] ** 2 + t**2 + ridge)
    beside_y = from_u @ right - inside @ yt  # (r, in)
    beside_u = left @ to_y - u @ inside  # (out, r)
    in_a = (s[:, None] * shared) @ yt + (s / (s**2 + ridge))[:, None] * beside_y
    in_b = u @ (shared * t) + beside_u * (t / (t**2 + ridge))
    return (in_b @ x.T).astype(np.float32), (vt.T @ in_a).astype(np.float32)
