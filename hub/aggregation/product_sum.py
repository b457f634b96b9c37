"""A sum of low-rank products, and its singular components, in memory that is the same for many.

What is small stays in memory, as stacked factors or as the matrix that they make, whichever is
smaller; QR and SVD give its components to the last bits. More than that goes to a file, block by
block, and is only multiplied from then on (`hub.aggregation.krylov`): a thousand products take the
memory of a few.
"""

import numpy as np
from numpy.typing import NDArray

from hub.aggregation import basis
from hub.aggregation.contract import Factors
from hub.aggregation.krylov import leading
from hub.aggregation.spilled import SpilledSum

Array64 = NDArray[np.float64]

#: Stacked factors, or a matrix, that are kept in memory. QR and SVD take some times as much for a
#: moment.
KEPT_BYTES = 2 * 1024 * 1024


class ProductSum:
    """A sum of products b @ a.

    Args:
        out, width: of the matrix that each product makes.
    """

    def __init__(self, out: int, width: int) -> None:
        self._out, self._width = out, width
        self._columns: list[Array64] = []  # each (out, r)
        self._rows: list[Array64] = []  # each (r, width)
        self._stacked = 0
        self._dense: Array64 | None = None
        self._spilled: SpilledSum | None = None

    def add(self, b: Array64, a: Array64) -> None:
        """Add ``b @ a``: (out, r) by (r, width)."""
        self._columns.append(b)
        self._rows.append(a)
        self._stacked += b.shape[1]
        if self._spilled is None and self._out * self._width * 8 <= KEPT_BYTES:
            if self._stacked > min(self._out, self._width):
                self._fold()
        elif self._stacked * (self._out + self._width) * 8 > KEPT_BYTES:
            self._spill()

    def _fold(self) -> Array64:
        """Add what is stacked to the matrix."""
        if self._dense is None:
            self._dense = np.zeros((self._out, self._width))
        if self._stacked:
            self._dense += np.hstack(self._columns) @ np.vstack(self._rows)
        self._columns, self._rows, self._stacked = [], [], 0
        return self._dense

    def _spill(self) -> SpilledSum:
        """Move what is in memory to the file."""
        if self._spilled is None:
            self._spilled = SpilledSum(self._out, self._width)
        if self._stacked:
            self._spilled.add(np.hstack(self._columns), np.vstack(self._rows))
        self._columns, self._rows, self._stacked = [], [], 0
        return self._spilled

    def components(self, rank: int, near: Array64) -> tuple[Array64, Array64, Array64]:
        """Return the first singular components: U, values in falling order, Vᵀ.

        Args:
            rank: how many at most.
            near: rows that are thought to be near to those of Vᵀ, (m, width).
        """
        if self._spilled is not None:
            return leading(self._spill(), rank, near)
        if self._dense is not None:
            u, s, vt = np.linalg.svd(self._fold(), full_matrices=False)
            return u[:, :rank], s[:rank], vt[:rank]
        if not self._stacked:
            return np.zeros((self._out, 0)), np.zeros(0), np.zeros((0, self._width))
        q_b, r_b = np.linalg.qr(np.hstack(self._columns))
        q_a, r_a = np.linalg.qr(np.vstack(self._rows).T)
        u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
        return q_b @ u[:, :rank], s[:rank], vt[:rank] @ q_a.T

    def along(self, columns: Array64) -> Array64:
        """Return the sum times ``columns``, (width, r)."""
        if self._spilled is not None:
            return self._spill().times(columns)
        if self._dense is not None:
            product: Array64 = self._fold() @ columns
            return product
        total = np.zeros((self._out, columns.shape[1]), dtype=np.float64)
        for b, a in zip(self._columns, self._rows, strict=True):
            total += b @ (a @ columns)
        return total

    def norm(self) -> float:
        """Return the sum's Frobenius norm."""
        if self._spilled is not None:
            return self._spill().norm()
        if self._dense is not None:
            return float(np.linalg.norm(self._fold()))
        if not self._columns:
            return 0.0
        # Orthonormal factors keep the norm, and nothing is squared: what cancels in the sum
        # cancels to the last bits, where Gram matrices would lose half of them.
        _, r_b = np.linalg.qr(np.hstack(self._columns))
        _, r_a = np.linalg.qr(np.vstack(self._rows).T)
        return float(np.linalg.norm(r_b @ r_a.T))

    def truncated(self, rank: int, total: float, candidates: Array64) -> Factors:
        """Return the first components of the sum over ``total``: A's rows orthonormal, B = U S.

        A component is signed so that the largest entry of its row of A is positive. Where the sum
        has fewer than ``rank``, B has zero columns and A candidates that still point out.

        Args:
            rank: components wanted.
            total: of the weights in the sum.
            candidates: directions to complete A with, (m, width).
        """
        u, s, vt = self.components(rank, candidates)
        # What is smaller than this is rounding of the stacks, not a component.
        floor = np.finfo(np.float64).eps * max(self._out, self._width) * s[:1].max(initial=0.0)
        live = int(np.count_nonzero(s[:rank] > floor))
        rows = vt[:live]
        top = np.argmax(np.abs(rows), axis=1)
        signs = np.where(rows[np.arange(live), top] < 0, -1.0, 1.0)
        b = np.zeros((self._out, rank), dtype=np.float64)
        b[:, :live] = u[:, :live] * (s[:live] * signs / total)
        a = basis.complete(rows * signs[:, None], rank, candidates, seed=rank)
        return Factors(a.astype(np.float32), b.astype(np.float32))


def double(factors: Factors) -> tuple[Array64, Array64]:
    """Return A and B in float64."""
    return factors.a.astype(np.float64), factors.b.astype(np.float64)
