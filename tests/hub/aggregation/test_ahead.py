"""Layers made ahead are the same layers, and no more of them than threads."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from hub.aggregation.ahead import Ahead
from hub.aggregation.contract import Factors

NAMES = [f"layer-{number}" for number in range(6)]


def layer(name: str) -> Factors:
    number = float(name.removeprefix("layer-"))
    return Factors(np.full((1, 2), number, np.float32), np.full((2, 1), number, np.float32))


def counted(made: list[str]) -> Callable[[str], Factors]:
    def make(name: str) -> Factors:
        made.append(name)
        return layer(name)

    return make


def test_each_layer_is_made_once_in_the_foreseen_order() -> None:
    made: list[str] = []
    with Ahead(counted(made), NAMES, threads=2) as ahead:
        assert [ahead.factors(name).a[0, 0] for name in NAMES] == [0, 1, 2, 3, 4, 5]
    assert sorted(made) == NAMES


def test_another_order_gives_the_same_layers() -> None:
    made: list[str] = []
    order = [NAMES[place] for place in (3, 0, 3, 5, 1)]
    with Ahead(counted(made), NAMES, threads=2) as ahead:
        assert [ahead.factors(name).b[1, 0] for name in order] == [3, 0, 3, 5, 1]


def test_no_more_are_made_ahead_than_there_are_threads() -> None:
    made: list[str] = []
    with Ahead(counted(made), NAMES, threads=2) as ahead:
        ahead.factors("layer-0")
    # The context's end waits for those that were begun: at most the two behind the first.
    assert set(made) <= set(NAMES[:3])


def test_two_layers_are_in_the_making_at_a_time() -> None:
    met = threading.Barrier(2, timeout=30.0)

    def make(name: str) -> Factors:
        if name in NAMES[:2]:
            met.wait()  # only the other thread can let this one go on
        return layer(name)

    with Ahead(make, NAMES, threads=2) as ahead:
        assert ahead.factors("layer-0").a[0, 0] == 0


def test_an_error_is_raised_where_its_layer_is_asked_for() -> None:
    def make(name: str) -> Factors:
        if name == "layer-1":
            raise ValueError(name)
        return layer(name)

    with Ahead(make, NAMES, threads=2) as ahead:
        ahead.factors("layer-0")
        with pytest.raises(ValueError, match="layer-1"):
            ahead.factors("layer-1")
