"""The registry, and what every registered strategy must do (`strategies/__init__.py`)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.aggregation.contract import AggregationError, Array, Strategy, Trained
from hub.aggregation.server_step import step_tensor
from hub.aggregation.strategies import by_name, catalogue, configured, defaults

EVERY = pytest.mark.parametrize("strategy", catalogue().values(), ids=lambda one: one.name)
FACTS = st.builds(
    Trained,
    device=st.just("a"),
    tokens=st.integers(1, 10**9),
    staleness=st.integers(0, 4),
    steps=st.integers(1, 200),
    lr=st.floats(1e-6, 1e-2),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
)
COHORT = st.lists(FACTS, min_size=1, max_size=8).map(
    lambda found: [replace(one, device=f"d{index}") for index, one in enumerate(found)]
)
#: What a round's mean may differ by from the value: three numbers.
THREE = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)


def test_a_file_in_the_folder_is_a_strategy() -> None:
    assert by_name("fedavg").name == "fedavg"


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AggregationError, match="fedavg"):
        by_name("best")


def test_a_strategy_is_set_by_its_fields() -> None:
    assert defaults("fedavgm") == {"lr": 1.0, "momentum": 0.9}
    assert defaults("fedavg") == {}
    set_so: Any = configured("fedavgm", {"momentum": 0.5})
    assert (set_so.lr, set_so.momentum) == (1.0, 0.5)
    assert defaults("fedavgm")["momentum"] == 0.9  # of the next job
    with pytest.raises(TypeError):
        configured("fedavg", {"momentum": 0.5})


@EVERY
@given(updates=COHORT)
def test_weights_are_positive(strategy: Strategy, updates: list[Trained]) -> None:
    weights = strategy.weights(updates)
    assert len(weights) == len(updates)
    assert min(weights) > 0


@EVERY
@given(updates=COHORT, data=st.data())
def test_a_weight_stays_with_its_update_in_any_order(
    strategy: Strategy, updates: list[Trained], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(updates))
    named = {one.device: w for one, w in zip(updates, strategy.weights(updates), strict=True)}
    again = {one.device: w for one, w in zip(shuffled, strategy.weights(shuffled), strict=True)}
    assert again == pytest.approx(named)


@EVERY
@given(one=FACTS, count=st.integers(1, 8))
def test_updates_that_were_trained_alike_in_time_make_a_plain_mean(
    strategy: Strategy, one: Trained, count: int
) -> None:
    alike = [replace(one, device=f"d{index}", staleness=0) for index in range(count)]
    assert strategy.weights(alike) == pytest.approx([1 / count] * count)


@EVERY
def test_nobody_weighs_nothing(strategy: Strategy) -> None:
    assert strategy.weights([]) == []


@EVERY
@pytest.mark.parametrize("fault", [{"tokens": 0}, {"staleness": -1}, {"steps": 0}])
def test_impossible_facts_are_refused(strategy: Strategy, fault: dict[str, int]) -> None:
    with pytest.raises(AggregationError, match="update of a"):
        strategy.weights([replace(Trained("a", 5, 0), **fault)])


@EVERY
@given(current=THREE)
def test_devices_that_went_nowhere_leave_a_new_job_where_it_is(
    strategy: Strategy, current: list[float]
) -> None:
    value = array(current)
    moved = step_tensor(value, value, 1.0, strategy.server, None)
    assert moved.value.tolist() == value.tolist()


@EVERY
@given(current=THREE, mean=THREE)
def test_a_step_changes_neither_its_inputs_nor_its_mind(
    strategy: Strategy, current: list[float], mean: list[float]
) -> None:
    value, after = array(current), array(mean)
    first = step_tensor(value, after, 1.0, strategy.server, None)
    kept = {name: one.copy() for name, one in first.kept.items()} or None
    once = step_tensor(first.value, after, 1.0, strategy.server, kept)
    again = step_tensor(first.value, after, 1.0, strategy.server, first.kept or None)
    assert once.value.tolist() == again.value.tolist()
    assert value.tolist() == array(current).tolist()
    assert after.tolist() == array(mean).tolist()
    assert {name: one.tolist() for name, one in (kept or {}).items()} == {
        name: one.tolist() for name, one in first.kept.items()
    }


def array(numbers: list[float]) -> Array:
    return np.array(numbers, dtype=np.float32)
