"""FlexLoRA: the products are averaged, and an SVD gives each device its leading components.

Bai et al. 2024, arXiv 2402.11505:

    W = Σₖ wₖ Bₖ Aₖ = U Σ Vᵀ,   B = U[:, :R] Σ[:R],   A = Vᵀ[:R]

A device of rank r takes the r leading components of that and trains them as if there were no
others. So what stands behind them enters W only through devices of higher rank, with their weights:
from round to round it fades (that is what `raflora` is about, and what `stack_svd` avoids).

A device that started from an older adapter G' counts as leading(G) + (Bₖ Aₖ − leading(G')).
"""

from collections.abc import Iterable
from typing import Literal

from hub.aggregation.contract import (
    AggregationError,
    Basis,
    Factors,
    FactorsUpdate,
    check_factors,
    check_weight,
)
from hub.aggregation.product_sum import ProductSum, double
from wire.trained_factors import Rest, Trains


class FlexLora:
    """Mean of products, SVD, truncation."""

    name = "flexlora"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "absent"
    cores = False

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that there are new components, in order of weight."""
        return "new"

    def trains(self, round_: int) -> Trains:  # noqa: ARG002 - in every round alike
        """Return that both factors are trained."""
        return "both"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the first R singular components of the mean: rows of A orthonormal, B = U Σ."""
        mean = ProductSum(out=current.b.shape[0], width=current.a.shape[1])
        total = 0.0
        for update in updates:
            check_factors(update, current)
            weight = check_weight(update.weight)
            total += weight
            a, b = double(current.leading(update.delta.rank))
            d_a, d_b = double(update.delta)
            if update.start is None:
                mean.add(weight * (b + d_b), a + d_a)
            else:
                mean.add(weight * b, a)
                a, b = double(update.start.leading(update.delta.rank))
                # (b + d_b)(a + d_a) − b a, written so that nothing cancels.
                mean.add(weight * (b + d_b), d_a)
                mean.add(weight * d_b, a)
        if total == 0:
            raise AggregationError("no updates to combine.")
        return mean.truncated(current.rank, total, double(current)[0])


RULE = FlexLora()
