"""FFA-LoRA: A stays as it was drawn, only B is trained (Sun et al. 2024, arXiv 2403.12313).

    B = Σₖ wₖ Bₖ,   and so   B A = Σₖ wₖ Bₖ A

exactly: with one A for all, the product is linear in what travels. That is what secure aggregation
needs, and why noise for differential privacy meets no noise of another factor. The paper has one
rank for all; here a device of lower rank trains its leading columns of B and keeps the others in
place, so that its difference to the start is zero there and the mean stays exact.

A device that started from an older adapter adds its difference to the current one.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from hub.aggregation.contract import Basis, Factors, FactorsUpdate, check_factors, check_weight
from hub.aggregation.padded_sum import PaddedSum
from hub.aggregation.product_sum import double
from wire.trained_factors import Rest, Trains


class FreezeA:
    """The mean of B beside an A that never changes."""

    name = "freeze_a"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "frozen"
    cores = False

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that the factors move, component by component."""
        return "same"

    def trains(self, round_: int) -> Trains:  # noqa: ARG002 - in every round alike
        """Return that B is trained."""
        return "b"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return A as it is, and B moved by the mean of the differences."""
        moved = PaddedSum(current)
        for update in updates:
            check_factors(update, current)
            moved.add(check_weight(update.weight), *double(update.delta))
        _, mean_b = moved.mean()
        return Factors(current.a.copy(), (current.b + mean_b).astype(np.float32))


RULE = FreezeA()
