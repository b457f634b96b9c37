"""The registry, and what every registered strategy must do (`strategies/__init__.py`)."""

import pytest

from hub.aggregation.contract import AggregationError, Strategy, Trained
from hub.aggregation.strategies import by_name, catalogue


def test_a_file_in_the_folder_is_a_strategy() -> None:
    assert by_name("fedavg").name == "fedavg"


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AggregationError, match="fedavg"):
        by_name("best")


@pytest.mark.parametrize("strategy", catalogue().values(), ids=lambda one: one.name)
def test_weights_are_positive_and_sum_to_one(strategy: Strategy) -> None:
    weights = strategy.weights([Trained("a", 7, 0), Trained("b", 900, 2), Trained("c", 30, 1)])
    assert len(weights) == 3
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(1)
