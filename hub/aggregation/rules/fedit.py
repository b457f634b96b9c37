"""FedIT: the factors are averaged one by one (Zhang et al. 2023, arXiv 2305.05644).

    A = Σₖ wₖ Aₖ,   B = Σₖ wₖ Bₖ

The mean of products is another thing than the product of means: B A has the cross terms wₖ wₗ Bₖ Aₗ
that no device trained. The paper has one rank for all; where a device has a lower one, its factors
are padded with zeros, as in HetLoRA (Cho et al. 2024, arXiv 2401.06432), and it trains
the leading components as if there were no others.

A device that started from an older adapter adds its difference to the current one.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from hub.aggregation.contract import Basis, Factors, FactorsUpdate, check_factors, check_weight
from hub.aggregation.padded_sum import PaddedSum
from hub.aggregation.product_sum import double
from wire.trained_factors import Rest, Trains


class FedIt:
    """Zero-padded averages of A and of B."""

    name = "fedit"
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
        total = PaddedSum(current)
        for update in updates:
            check_factors(update, current)
            a, b = double(current.leading(update.delta.rank))
            d_a, d_b = double(update.delta)
            total.add(check_weight(update.weight), a + d_a, b + d_b)
        mean_a, mean_b = total.mean()
        return Factors(mean_a.astype(np.float32), mean_b.astype(np.float32))


RULE = FedIt()
