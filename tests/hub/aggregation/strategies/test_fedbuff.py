"""FedBuff's weights by hand."""

import numpy as np
import pytest

from hub.aggregation.contract import Trained
from hub.aggregation.server_step import step_tensor
from hub.aggregation.strategies.fedbuff import STRATEGY, FedBuff


def test_a_late_update_counts_less_and_no_other_one_more() -> None:
    # s = 1, 1, 1/√(1 + 3) = 0.5, each over K = 3.
    updates = [Trained("a", 5, 0), Trained("b", 700, 0), Trained("c", 5, 3)]
    assert STRATEGY.weights(updates) == pytest.approx([1 / 3, 1 / 3, 1 / 6])


def test_a_round_of_late_updates_moves_by_as_much_less() -> None:
    # Both three rounds late: half of the mean difference (2, 0, -4).
    weights = STRATEGY.weights([Trained("a", 5, 3), Trained("b", 5, 3)])
    zero = np.zeros(3, dtype=np.float32)
    one = step_tensor(zero, np.float32([2, 0, -4]), sum(weights), STRATEGY.server, None)
    np.testing.assert_allclose(one.value, [1, 0, -2])


def test_the_hubs_rate_multiplies() -> None:
    assert FedBuff(lr=0.5).weights([Trained("a", 5, 0)]) == pytest.approx([0.5])
