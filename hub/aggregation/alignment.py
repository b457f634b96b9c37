"""Factors turned so that they lie near others: what changed between the two is then small.

A low-rank product has many factor pairs: B A = (B Qᵀ)(Q A) for every orthogonal Q. The SVD of a
round's mean gives one whose basis has nothing to do with the basis before; coded as a difference it
would be as large as the adapter itself. Of all Q, the one that brings both factors nearest to the
old ones is the polar factor of a small matrix (orthogonal Procrustes: Schönemann 1966, *A
generalized solution of the orthogonal Procrustes problem*).

Q turns within bands of components only, so that the leading ones stay the most important
(`hub.aggregation.bands`).
"""

from collections.abc import Sequence

import numpy as np

from hub.aggregation.bands import spans
from hub.aggregation.contract import Factors


def aligned(new: Factors, old: Factors, bands: Sequence[int]) -> Factors:
    """Return the same product as ``new`` in the basis that is nearest to that of ``old``.

    A's rows stay orthonormal where they were. They count with the mean square of B's columns, so
    that both factors weigh alike in the product.

    Args:
        new, old: of one layer and one rank.
        bands: the number of components of each band within which factors are turned.
    """
    a, b = new.a.astype(np.float64), new.b.astype(np.float64)
    weight = float(np.square(b).sum()) / max(1, new.rank)
    for first, stop in spans(bands):
        rows, columns = a[first:stop], b[:, first:stop]
        if not len(rows):  # the layer has fewer components
            break
        old_rows = old.a[first:stop].astype(np.float64)
        old_columns = old.b[:, first:stop].astype(np.float64)
        u, _, vt = np.linalg.svd(old_columns.T @ columns + weight * (old_rows @ rows.T))
        q = u @ vt  # (band, band)
        a[first:stop], b[:, first:stop] = q @ rows, columns @ q.T
    return Factors(a.astype(np.float32), b.astype(np.float32))
