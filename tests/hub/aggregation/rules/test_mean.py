"""The weighted mean of differences, by hand."""

import numpy as np
import pytest

from hub.aggregation.contract import AggregationError, VectorUpdate
from hub.aggregation.rules.mean import RULE


def row(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([values], dtype=np.float32)


def test_it_moves_by_the_weighted_mean_of_the_differences() -> None:
    # (1 · (4, 0, −4) + 3 · (0, 8, 0)) / 4 = (1, 6, −1)
    updates = [VectorUpdate(1, row(4, 0, -4)), VectorUpdate(3, row(0, 8, 0))]
    np.testing.assert_array_equal(RULE.combine(row(1, 1, 1), updates), row(2, 7, 0))


def test_only_the_ratio_of_the_weights_counts() -> None:
    updates = [VectorUpdate(0.25, row(4, 0, -4)), VectorUpdate(0.75, row(0, 8, 0))]
    np.testing.assert_array_equal(RULE.combine(row(1, 1, 1), updates), row(2, 7, 0))


def test_small_differences_of_many_devices_are_not_lost_to_rounding() -> None:
    # In float32 alone 1e8 + 1 is 1e8 again; the sum runs in float64.
    updates = [VectorUpdate(1, row(1e8)), VectorUpdate(1, row(1)), VectorUpdate(1, row(-1e8))]
    np.testing.assert_allclose(RULE.combine(row(0), updates), row(1 / 3), rtol=1e-6)


def test_no_updates_are_refused() -> None:
    with pytest.raises(AggregationError, match="no updates"):
        RULE.combine(row(1), [])


def test_another_shape_is_refused() -> None:
    with pytest.raises(AggregationError, match="shape"):
        RULE.combine(row(1, 2), [VectorUpdate(1, row(1))])


def test_a_weight_that_is_none_is_refused() -> None:
    with pytest.raises(AggregationError, match="weighs"):
        RULE.combine(row(1), [VectorUpdate(float("nan"), row(1))])
