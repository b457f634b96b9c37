"""FedSVD: B is trained and averaged, then B A is factorised anew (arXiv 2505.12805).

    B' = Σₖ wₖ Bₖ,   B' A = U Σ Vᵀ,   A ← Vᵀ,   B ← U Σ

Within a round only B moves, so the mean is exact and linear in what travels, as with `freeze_a`;
from round to round A's rows become the orthonormal directions in which the adapter acts, by their
weight. They span what they spanned before: A learns no new directions where B has full rank.

The paper has one rank for all; here a device of lower rank trains its leading columns of B and
keeps the others in place. A device that started from older factors B″ A″ adds (Bₖ − B″) A″.
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


class FedSvd:
    """The mean of B, and new factors of the product."""

    name = "fedsvd"
    space: Literal["product", "factor"] = "product"
    rest: Rest = "frozen"
    cores = False

    def basis(self, round_: int) -> Basis:  # noqa: ARG002 - in every round alike
        """Return that there are new components, in order of weight."""
        return "new"

    def trains(self, round_: int) -> Trains:  # noqa: ARG002 - in every round alike
        """Return that B is trained."""
        return "b"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the mean's singular components: rows of A orthonormal, B = U Σ."""
        a, b = double(current)
        # Those that started from here share A, so their differences add up in B, in no more memory.
        moved, others = np.zeros_like(b), ProductSum(out=b.shape[0], width=a.shape[1])
        total = 0.0
        for update in updates:
            check_factors(update, current)
            weight = check_weight(update.weight)
            total += weight
            _, d_b = double(update.delta)
            rank = update.delta.rank
            if update.start is None:
                moved[:, :rank] += weight * d_b
            else:
                others.add(weight * d_b, double(update.start)[0][:rank])
        if total == 0:
            raise AggregationError("no updates to combine.")
        others.add(total * b + moved, a)
        return others.truncated(current.rank, total, a)


RULE = FedSvd()
