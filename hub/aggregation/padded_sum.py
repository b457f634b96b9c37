"""A weighted sum of factors of mixed ranks, the lower ones padded with zeros."""

import numpy as np

from hub.aggregation.contract import AggregationError, Factors
from hub.aggregation.product_sum import Array64


class PaddedSum:
    """Σ wₖ pad(Aₖ) and Σ wₖ pad(Bₖ).

    Args:
        like: factors of the full rank.
    """

    def __init__(self, like: Factors) -> None:
        self._a = np.zeros(like.a.shape, dtype=np.float64)
        self._b = np.zeros(like.b.shape, dtype=np.float64)
        self._total = 0.0

    def add(self, weight: float, a: Array64, b: Array64) -> None:
        """Add factors, (r, in) and (out, r), which count as zeros from rank r on."""
        rank = a.shape[0]
        self._a[:rank] += weight * a
        self._b[:, :rank] += weight * b
        self._total += weight

    def mean(self) -> tuple[Array64, Array64]:
        """Return the weighted means of A and B.

        Raises:
            AggregationError: nothing was added.
        """
        if self._total == 0:
            raise AggregationError("no updates to combine.")
        return self._a / self._total, self._b / self._total
