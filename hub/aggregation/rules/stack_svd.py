"""The exact weighted mean of low-rank products of any ranks, then its best rank-R approximation.

The global adapter is G = Σⱼ bⱼ aⱼ, j < R. A device of rank r starts from the components j < r,
keeps the others frozen in place, and sends what changed: its model is Bₖ Aₖ + Σ_{j≥r} bⱼ aⱼ.
With weights wₖ that sum to 1, the mean over the devices is the product of two stacks,

    Σₖ wₖ Bₖ Aₖ + Σⱼ cⱼ bⱼ aⱼ,   cⱼ = Σ of wₖ over devices with rank <= j,

so it needs Σ rₖ + R columns and no (out, in) matrix. QR of both stacks and the SVD of the small
core give its singular components; the first R are kept, the rest is dropped.

A device that started from an older G' counts as G + (Bₖ Aₖ − leading(G')): G enters whole with
weight wₖ, its difference in stacked form.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hub.aggregation import basis
from hub.aggregation.contract import AggregationError, Factors, FactorsUpdate, check_weight

Array64 = NDArray[np.float64]


class StackSvd:
    """Stack, QR, SVD, truncate."""

    name = "stack_svd"
    space: Literal["product", "factor"] = "product"
    basis: Literal["turning", "fixed"] = "turning"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the first R singular components of the mean: rows of A orthonormal, B = U S.

        A component is signed so that the largest entry of its row of A is positive. Where the
        mean has fewer than R, B has zero columns and A old directions that still point out.
        """
        whole, rank = _double(current), current.rank
        total = 0.0
        kept = np.zeros(rank, dtype=np.float64)  # cⱼ
        mean = _Sum(out=current.b.shape[0], width=current.a.shape[1])
        for update in updates:
            total += check_weight(update.weight)
            _check(update, current)
            if update.start is None:
                kept[update.delta.rank :] += update.weight
            else:
                kept += update.weight
            _add(mean, update, whole)
        if total == 0:
            raise AggregationError("no updates to combine.")
        frozen = np.flatnonzero(kept)
        mean.add(whole[1][:, frozen] * kept[frozen], whole[0][frozen])
        u, s, vt = mean.components()
        return _factors(u, s / total, vt, whole[0])


RULE = StackSvd()


class _Sum:
    """A sum of products b @ a: stacked factors while they are narrow, one matrix afterwards."""

    def __init__(self, out: int, width: int) -> None:
        self._out, self._width = out, width
        self._columns: list[Array64] = []  # each (out, r)
        self._rows: list[Array64] = []  # each (r, width)
        self._stacked = 0
        self._dense: Array64 | None = None

    def add(self, b: Array64, a: Array64) -> None:
        """Add ``b @ a``: (out, r) by (r, width)."""
        if self._dense is not None:
            self._dense += b @ a
            return
        self._columns.append(b)
        self._rows.append(a)
        self._stacked += b.shape[1]
        # Beyond this the matrix takes less memory than the stacks, however many updates follow.
        if self._stacked > min(self._out, self._width):
            self._dense = np.zeros((self._out, self._width), dtype=np.float64)
            while self._columns:
                self._dense += self._columns.pop(0) @ self._rows.pop(0)

    def components(self) -> tuple[Array64, Array64, Array64]:
        """Return the thin SVD of the sum: U, singular values in falling order, Vᵀ."""
        if self._dense is not None:
            u, s, vt = np.linalg.svd(self._dense, full_matrices=False)
            return u, s, vt
        q_b, r_b = np.linalg.qr(np.hstack(self._columns))
        q_a, r_a = np.linalg.qr(np.vstack(self._rows).T)
        u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
        return q_b @ u, s, vt @ q_a.T


def _add(mean: _Sum, update: FactorsUpdate, whole: tuple[Array64, Array64]) -> None:
    a, b = whole if update.start is None else _double(update.start)
    d_a, d_b = _double(update.delta)
    a, b = a[: update.delta.rank], b[:, : update.delta.rank]
    weight = update.weight
    if update.start is None:
        mean.add(weight * (b + d_b), a + d_a)
    else:
        # (b + d_b)(a + d_a) − b a, written so that nothing cancels.
        mean.add(weight * (b + d_b), d_a)
        mean.add(weight * d_b, a)


def _factors(u: Array64, s: Array64, vt: Array64, old_a: Array64) -> Factors:
    rank, width = old_a.shape
    # What is smaller than this is rounding of the stacks, not a component.
    floor = np.finfo(np.float64).eps * max(u.shape[0], width) * s[0]
    live = int(np.count_nonzero(s[:rank] > floor))
    rows = vt[:live]
    top = np.argmax(np.abs(rows), axis=1)
    signs = np.where(rows[np.arange(live), top] < 0, -1.0, 1.0)
    b = np.zeros((u.shape[0], rank), dtype=np.float64)
    b[:, :live] = u[:, :live] * (s[:live] * signs)
    a = basis.complete(rows * signs[:, None], rank, old_a, seed=rank)
    return Factors(a.astype(np.float32), b.astype(np.float32))


def _check(update: FactorsUpdate, current: Factors) -> None:
    """Raise `AggregationError` unless the update belongs to this layer."""
    out, width = current.b.shape[0], current.a.shape[1]
    rank = update.delta.rank
    start = current if update.start is None else update.start
    if update.delta.a.shape != (rank, width) or update.delta.b.shape != (out, rank):
        raise AggregationError(
            f"an update's factors have shapes {update.delta.a.shape} and {update.delta.b.shape}; "
            f"this layer takes ({rank}, {width}) and ({out}, {rank})."
        )
    if not 0 < rank <= start.rank:
        raise AggregationError(f"an update has rank {rank}; its start has {start.rank}.")
    if start.a.shape[1] != width or start.b.shape[0] != out:
        raise AggregationError(
            f"an update started from a layer of {start.b.shape[0]} × {start.a.shape[1]}; "
            f"this one has {out} × {width}."
        )


def _double(factors: Factors) -> tuple[Array64, Array64]:
    return factors.a.astype(np.float64), factors.b.astype(np.float64)
