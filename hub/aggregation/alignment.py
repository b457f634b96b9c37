"""Factors turned so that they lie near others: what changed between the two is then small.

A low-rank product has many factor pairs: B A = (B Qᵀ)(Q A) for every orthogonal Q. The SVD of a
round's mean gives one whose basis has nothing to do with the basis before; coded as a difference it
would be as large as the adapter itself. Of all Q, the one that brings both factors nearest to the
old ones is the polar factor of a small matrix (orthogonal Procrustes: Schönemann 1966, *A
generalized solution of the orthogonal Procrustes problem*).
"""

import numpy as np

from hub.aggregation.contract import Factors


def aligned(new: Factors, old: Factors) -> Factors:
    """Return the same product as ``new`` in the basis that is nearest to that of ``old``.

    A's rows stay orthonormal where they were. They count with the mean square of B's columns, so
    that both factors weigh alike in the product.

    Args:
        new, old: of one layer and one rank.
    """
    a, b = new.a.astype(np.float64), new.b.astype(np.float64)
    weight = float(np.square(b).sum()) / max(1, new.rank)
    near = old.b.astype(np.float64).T @ b + weight * (old.a.astype(np.float64) @ a.T)
    u, _, vt = np.linalg.svd(near)
    q = u @ vt  # (rank, rank)
    return Factors((q @ a).astype(np.float32), (b @ q.T).astype(np.float32))
