"""RoLoRA: B and A are trained in turns (Chen et al. 2025, arXiv 2502.01755).

In odd rounds the devices train B while A stays as it is, in even rounds A while B stays:

    B = Σₖ wₖ Bₖ   or   A = Σₖ wₖ Aₖ,   and so   B A = Σₖ wₖ Bₖ A   or   Σₖ wₖ B Aₖ

exactly. B comes first, for a fresh adapter has B = 0 and A no gradient. The paper has one rank for
all; here a device of lower rank trains its leading components and keeps the others in place.

A device that started from an older adapter adds its difference to the current one. If its round
trained the other factor, both move, and the product of the two moves comes in.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from hub.aggregation.contract import Basis, Factors, FactorsUpdate, check_factors, check_weight
from hub.aggregation.padded_sum import PaddedSum
from hub.aggregation.product_sum import double
from wire.trained_factors import Rest, Trains


class Alternate:
    """The mean of B in one round, of A in the next."""

    name = "alternate"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "frozen"
    cores = False

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that the factors move, component by component."""
        return "same"

    def trains(self, round_: int) -> Trains:
        """Return that B is trained in odd rounds and A in even ones."""
        return "b" if round_ % 2 else "a"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return both factors moved by the means of the differences, of which one is zero."""
        moved = PaddedSum(current)
        for update in updates:
            check_factors(update, current)
            moved.add(check_weight(update.weight), *double(update.delta))
        mean_a, mean_b = moved.mean()
        return Factors(
            (current.a + mean_a).astype(np.float32), (current.b + mean_b).astype(np.float32)
        )


RULE = Alternate()
