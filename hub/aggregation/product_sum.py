"""A sum of low-rank products, and its singular components, in no more memory than one matrix."""

import numpy as np
from numpy.typing import NDArray

from hub.aggregation import basis
from hub.aggregation.contract import Factors

Array64 = NDArray[np.float64]

#: Columns that are added to a matrix at once, for going through it is what takes the time, and rows
#: of it at a time, so that the product needs no memory to speak of.
_BATCH, _ROWS = 256, 512


class ProductSum:
    """A sum of products b @ a: stacked factors while they are narrow, one matrix afterwards.

    Args:
        out, width: of the matrix that each product makes.
    """

    def __init__(self, out: int, width: int) -> None:
        self._out, self._width = out, width
        self._columns: list[Array64] = []  # each (out, r)
        self._rows: list[Array64] = []  # each (r, width)
        self._stacked = 0
        self._dense: Array64 | None = None

    def add(self, b: Array64, a: Array64) -> None:
        """Add ``b @ a``: (out, r) by (r, width)."""
        self._columns.append(b)
        self._rows.append(a)
        self._stacked += b.shape[1]
        if self._dense is not None:
            if self._stacked >= _BATCH:
                self._fold(self._dense)
        # Beyond this the matrix takes less memory than the stacks, however many updates follow.
        elif self._stacked > min(self._out, self._width):
            self._dense = np.zeros((self._out, self._width), dtype=np.float64)
            self._fold(self._dense)

    def _fold(self, dense: Array64) -> None:
        """Add what is stacked to the matrix: many columns at once, some rows at a time."""
        if self._columns:
            columns, rows = np.hstack(self._columns), np.vstack(self._rows)
            for at in range(0, self._out, _ROWS):
                dense[at : at + _ROWS] += columns[at : at + _ROWS] @ rows
        self._columns, self._rows, self._stacked = [], [], 0

    def _whole(self) -> Array64 | None:
        """Return the matrix with all that was added, if there is one."""
        if self._dense is not None:
            self._fold(self._dense)
        return self._dense

    def components(self) -> tuple[Array64, Array64, Array64]:
        """Return the thin SVD of the sum: U, singular values in falling order, Vᵀ."""
        dense = self._whole()
        if dense is not None:
            u, s, vt = np.linalg.svd(dense, full_matrices=False)
            return u, s, vt
        q_b, r_b = np.linalg.qr(np.hstack(self._columns))
        q_a, r_a = np.linalg.qr(np.vstack(self._rows).T)
        u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
        return q_b @ u, s, vt @ q_a.T

    def along(self, columns: Array64) -> Array64:
        """Return the sum times ``columns``, (width, r)."""
        dense = self._whole()
        if dense is not None:
            product: Array64 = dense @ columns
            return product
        total = np.zeros((self._out, columns.shape[1]), dtype=np.float64)
        for b, a in zip(self._columns, self._rows, strict=True):
            total += b @ (a @ columns)
        return total

    def norm(self) -> float:
        """Return the sum's Frobenius norm."""
        dense = self._whole()
        if dense is not None:
            return float(np.linalg.norm(dense))
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
        u, s, vt = self.components()
        # What is smaller than this is rounding of the stacks, not a component.
        floor = np.finfo(np.float64).eps * max(self._out, self._width) * s[0]
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
