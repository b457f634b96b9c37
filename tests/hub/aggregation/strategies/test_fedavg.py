"""FedAvg's weights by hand."""

import pytest

from hub.aggregation.contract import AggregationError, Trained
from hub.aggregation.strategies.fedavg import STRATEGY


def test_an_update_counts_as_its_tokens() -> None:
    updates = [Trained("a", 100, 0), Trained("b", 300, 0)]
    assert STRATEGY.weights(updates) == pytest.approx([0.25, 0.75])


def test_an_update_three_rounds_late_counts_half() -> None:
    # 1 / √(1 + 3) = 0.5, so 100 : 50.
    updates = [Trained("a", 100, 0), Trained("b", 100, 3)]
    assert STRATEGY.weights(updates) == pytest.approx([2 / 3, 1 / 3])


def test_nobody_weighs_nothing() -> None:
    assert STRATEGY.weights([]) == []


@pytest.mark.parametrize("update", [Trained("a", 0, 0), Trained("a", 5, -1)])
def test_impossible_facts_are_refused(update: Trained) -> None:
    with pytest.raises(AggregationError, match="update of a"):
        STRATEGY.weights([update])
