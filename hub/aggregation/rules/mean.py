"""The weighted mean of vectors: McMahan et al. 2017, arXiv 1602.05629, algorithm 1.

Each update is a difference Δₖ to its start. On the current value g the mean of g + Δₖ is
g + Σ wₖ Δₖ, so an update from an older start adds its difference like any other.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from hub.aggregation.contract import AggregationError, Array, VectorUpdate, check_weight


class Mean:
    """Moves by the weighted mean of the differences."""

    name = "mean"
    space: Literal["product", "factor"] = "factor"

    def combine(self, current: Array, updates: Iterable[VectorUpdate]) -> Array:
        """Return ``current`` plus the weighted mean of the differences, summed in float64."""
        total = 0.0
        moved = np.zeros(current.shape, dtype=np.float64)
        for update in updates:
            if update.delta.shape != current.shape:
                raise AggregationError(
                    f"an update has shape {update.delta.shape}; the tensor has {current.shape}."
                )
            total += check_weight(update.weight)
            moved += update.weight * update.delta.astype(np.float64)
        if total == 0:
            raise AggregationError("no updates to combine.")
        combined: Array = (current + moved / total).astype(np.float32)
        return combined


RULE = Mean()
