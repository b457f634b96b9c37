"""raFLoRA: each rank partition is averaged over the devices that hold it.

Wu et al. 2026, arXiv 2602.13486. `flexlora` weighs a device's whole product alike, but the higher
components come from devices of high rank alone, so that their energy falls by the others' weights
in every round: rank collapse. Here the products are cut into partitions, and each one's weights sum
to 1 over the devices that contribute to it. Component j has

    cⱼ = Σ of wₖ over devices with rank > j,   W = Σₖ Σ_{j < rₖ} (wₖ / cⱼ) bₖⱼ aₖⱼ

and an SVD of W gives the next components, as in `flexlora`. Components that nobody holds in a round
stay as they are; of those the paper doesn't speak.

A device that started from an older adapter G' counts as leading(G) + (Bₖ Aₖ − leading(G')).
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
from hub.aggregation.product_sum import ProductSum, double
from wire.trained_factors import Rest, Trains


class RaFlora:
    """Mean of products by rank partition, SVD, truncation."""

    name = "raflora"
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
        """Return the first R singular components: rows of A orthonormal, B = U Σ."""
        held = np.zeros(current.rank, dtype=np.float64)  # cⱼ
        for update in updates:
            check_factors(update, current)
            held[: update.delta.rank] += check_weight(update.weight)
        if not held.any():
            raise AggregationError("no updates to combine.")
        mean = ProductSum(out=current.b.shape[0], width=current.a.shape[1])
        for update in updates:
            rank = update.delta.rank
            weights = update.weight / held[:rank]
            a, b = double(current.leading(rank))
            d_a, d_b = double(update.delta)
            if update.start is None:
                mean.add((b + d_b) * weights, a + d_a)
            else:
                mean.add(b * weights, a)
                a, b = double(update.start.leading(rank))
                # (b + d_b)(a + d_a) − b a, written so that nothing cancels.
                mean.add((b + d_b) * weights, d_a)
                mean.add(d_b * weights, a)
        a, b = double(current)
        mean.add(b[:, held == 0], a[held == 0])
        return mean.truncated(current.rank, 1.0, a)


RULE = RaFlora()
