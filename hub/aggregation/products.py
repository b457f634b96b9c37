"""Sums of low-rank products, brought back to one product of a bounded rank.

Σᵢ Bᵢ Aᵢ is the product of two stacks; QR of both and the SVD of the small core give its singular
components (as `rules/stack_svd.py` does for a round's mean), of which the first are kept: the best
approximation of that rank (Eckart and Young 1936).
"""

from collections.abc import Sequence

import numpy as np

from hub.aggregation import basis
from hub.aggregation.contract import Array64, Factors

#: A product and what it is multiplied with.
Term = tuple[float, Factors]


def combined(terms: Sequence[Term], rank: int, old_a: Array64 | None = None) -> Factors:
    """Return the best approximation of a sum of products.

    Args:
        terms: of one layer, at least one.
        rank: of the result. Components that the sum lacks have zero columns of B.
        old_a: rows that A takes where B has zero columns, as far as they point out of the others;
            None: zeros.

    Returns:
        Rows of A orthonormal, in order of falling importance; B takes the scale.
    """
    columns = np.hstack([factor * one.b.astype(np.float64) for factor, one in terms])  # (out, r)
    rows = np.vstack([one.a.astype(np.float64) for _, one in terms])  # (r, in)
    out, width = columns.shape[0], rows.shape[1]
    if columns.shape[1] > min(out, width):  # the matrix itself is smaller than the stacks
        u, s, vt = np.linalg.svd(columns @ rows, full_matrices=False)
    else:
        q_b, r_b = np.linalg.qr(columns)
        q_a, r_a = np.linalg.qr(rows.T)
        u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
        u, vt = q_b @ u, vt @ q_a.T
    # What is smaller than this is rounding of the stacks, not a component.
    scale = max(float(np.linalg.norm(factor * one.b)) for factor, one in terms)
    floor = np.finfo(np.float64).eps * max(out, width) * max(scale, float(s[0]))
    live = int(np.count_nonzero(s[:rank] > floor))
    top = np.argmax(np.abs(vt[:live]), axis=1)
    signs = np.where(vt[np.arange(live), top] < 0, -1.0, 1.0)
    b = np.zeros((out, rank), dtype=np.float64)
    b[:, :live] = u[:, :live] * (s[:live] * signs)
    a = np.zeros((rank, width), dtype=np.float64)
    a[:live] = vt[:live] * signs[:, None]
    if old_a is not None:
        a = basis.complete(a[:live], rank, old_a, seed=rank)
    return Factors(a.astype(np.float32), b.astype(np.float32))
