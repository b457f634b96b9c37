"""The exact weighted mean of low-rank products of any ranks, then its best rank-R approximation.

The global adapter is G = Σⱼ bⱼ aⱼ, j < R. A device of rank r starts from the components j < r,
keeps the others frozen in place, and sends what changed: its model is Bₖ Aₖ + Σ_{j≥r} bⱼ aⱼ.
With weights wₖ that sum to 1, the mean over the devices is the product of two stacks,

    Σₖ wₖ Bₖ Aₖ + Σⱼ cⱼ bⱼ aⱼ,   cⱼ = Σ of wₖ over devices with rank <= j,

so it needs Σ rₖ + R columns and no (out, in) matrix. QR of both stacks and the SVD of the small
core give its singular components; the first R are kept, the rest is dropped. Stacks that are too
large for memory rest in a file (`hub.aggregation.product_sum`).

A device that started from an older G' counts as G + (Bₖ Aₖ − leading(G')): G enters whole with
weight wₖ, its difference in stacked form.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from hub.aggregation.contract import (
    AggregationError,
    Basis,
    Factors,
    FactorsUpdate,
    check_factors,
    check_weight,
)
from hub.aggregation.product_sum import Array64, ProductSum, double
from wire.trained_factors import Rest, Trains


class StackSvd:
    """Stack, QR, SVD, truncate."""

    name = "stack_svd"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "frozen"
    cores = True

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that only the product counts."""
        return "turned"

    def trains(self, round_: int) -> Trains:  # noqa: ARG002 - in every round alike
        """Return that both factors are trained."""
        return "both"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the first R singular components of the mean: rows of A orthonormal, B = U S.

        A component is signed so that the largest entry of its row of A is positive. Where the
        mean has fewer than R, B has zero columns and A old directions that still point out.
        """
        whole, rank = double(current), current.rank
        total = 0.0
        kept = np.zeros(rank, dtype=np.float64)  # cⱼ
        mean = ProductSum(out=current.b.shape[0], width=current.a.shape[1])
        for update in updates:
            total += check_weight(update.weight)
            check_factors(update, current)
            if update.start is None:
                kept[update.delta.rank :] += update.weight
            else:
                kept += update.weight
            _add(mean, update, whole)
        if total == 0:
            raise AggregationError("no updates to combine.")
        frozen = np.flatnonzero(kept * whole[1].any(axis=0))
        mean.add(whole[1][:, frozen] * kept[frozen], whole[0][frozen])
        return mean.truncated(rank, total, whole[0])


RULE = StackSvd()


def _add(mean: ProductSum, update: FactorsUpdate, whole: tuple[Array64, Array64]) -> None:
    a, b = whole if update.start is None else double(update.start)
    d_a, d_b = double(update.delta)
    a, b = a[: update.delta.rank], b[:, : update.delta.rank]
    weight = update.weight
    if update.start is None:
        mean.add(weight * (b + d_b), a + d_a)
    else:
        # (b + d_b)(a + d_a) − b a, written so that nothing cancels.
        mean.add(weight * (b + d_b), d_a)
        mean.add(weight * d_b, a)
