"""Fed-SB: cores between frozen directions, averaged (Singhal et al. 2025, arXiv 2502.15436).

    W = U C A,   C = Σₖ wₖ Cₖ,   and so   U C A = Σₖ wₖ U Cₖ A

with U and A frozen, the mean is exact at any mix of ranks, and r² numbers a layer travel up,
however large the model is. The paper takes the directions from an SVD of what a first step of full
fine-tuning would change, as LoRA-SB does (arXiv 2411.19557). Here the first round stands for that
step: the devices train A and B, and the mean of their products is truncated to R components, as
with `stack_svd`. From then on A is fixed, B = U C moves in its columns' span alone
(`wire.core_directions`), and only cores are trained.

A device of lower rank trains the leading block of the core and keeps the others in place. A device
that started from older factors adds its difference, as far as it lies along A.
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


class Core:
    """Directions from the first round, then the mean of cores."""

    name = "core"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "frozen"
    cores = True

    def basis(self, round_: int) -> Basis:
        """Return that the first round's product may be turned, and that nothing turns later."""
        return "turned" if round_ == 1 else "same"

    def trains(self, round_: int) -> Trains:
        """Return that cores are trained, but in the first round both factors."""
        return "both" if round_ == 1 else "core"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return A as it is and the mean of B, or new directions if A was trained from here."""
        a, b = double(current)
        changed = ProductSum(out=b.shape[0], width=a.shape[1])
        total, fresh = 0.0, False
        for update in updates:
            check_factors(update, current)
            weight = check_weight(update.weight)
            total += weight
            fresh = fresh or (update.start is None and bool(update.delta.a.any()))
            for columns, rows in _change(update, current):
                changed.add(weight * columns, rows)
        if total == 0:
            raise AggregationError("no updates to combine.")
        if fresh:
            changed.add(total * b, a)
            return changed.truncated(current.rank, total, a)
        inverse = np.linalg.pinv(a).astype(np.float64)  # (in, rank)
        moved = changed.along(inverse) / total
        return Factors(current.a.copy(), (b + moved).astype(np.float32))


RULE = Core()


def _change(update: FactorsUpdate, current: Factors) -> list[tuple[Array64, Array64]]:
    """Return (b + d_b)(a + d_a) − b a as products, written so that nothing cancels."""
    start = current if update.start is None else update.start
    a, b = double(start.leading(update.delta.rank))
    d_a, d_b = double(update.delta)
    parts = [(d_b, a)]
    if d_a.any():
        parts.append((b + d_b, d_a))
    return parts
