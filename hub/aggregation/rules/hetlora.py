"""HetLoRA: zero-padded averages, weighted by how much each device's product holds.

Cho et al. 2024, arXiv 2401.06432, "sparsity-weighted aggregation":

    A = Σₖ pₖ pad(Aₖ),   B = Σₖ pₖ pad(Bₖ),   pₖ = Sₖ / Σₗ Sₗ,   Sₖ = ‖Bₖ Aₖ‖_F

A device takes the leading components of the adapter, as many as its rank, and trains them as if
there were no others. The paper's devices have equal weights; here the strategy's wₖ multiply Sₖ.
Where all products are zero, the wₖ count alone.

Left out is rank self-pruning: there a device's loss draws its last components to zero, and it gives
them up. Ranks here follow from the device's memory, which pruning would leave unused, and a job
with a seed repeats them.

A device that started from an older adapter adds its difference to the current one.
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
from hub.aggregation.padded_sum import PaddedSum
from hub.aggregation.product_sum import Array64, double
from wire.trained_factors import Rest, Trains


class HetLora:
    """Zero-padded averages of A and of B, by the norms of the products."""

    name = "hetlora"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "absent"
    cores = False

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that the factors move, component by component."""
        return "same"

    def trains(self, round_: int) -> Trains:  # noqa: ARG002 - in every round alike
        """Return that both factors are trained."""
        return "both"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the averages of the devices' factors."""
        by_norm, plain = PaddedSum(current), PaddedSum(current)
        some = False
        for update in updates:
            check_factors(update, current)
            a, b = double(current.leading(update.delta.rank))
            d_a, d_b = double(update.delta)
            a, b = a + d_a, b + d_b
            weight, norm = check_weight(update.weight), _norm(a, b)
            if not np.isfinite(norm):
                raise AggregationError(f"an update's product has the norm {norm}.")
            some = some or norm > 0
            by_norm.add(weight * norm, a, b)
            plain.add(weight, a, b)
        mean_a, mean_b = (by_norm if some else plain).mean()
        return Factors(mean_a.astype(np.float32), mean_b.astype(np.float32))


RULE = HetLora()


def _norm(a: Array64, b: Array64) -> float:
    """Return ‖b a‖_F through the (r, r) Gram matrices: tr((b a)ᵀ b a) = tr(bᵀb · a aᵀ)."""
    return float(np.sqrt(max(0.0, np.sum((b.T @ b) * (a @ a.T)))))
