"""Tensors that are made a layer at a time."""

import numpy as np
import pytest

from hub.aggregation.contract import Factors
from hub.aggregation.layers import Layers

SHAPES = {
    "k.lora_A": (1, 2), "k.lora_B": (3, 1), "q.lora_A": (1, 2), "q.lora_B": (3, 1),
}  # fmt: skip


class Maker:
    """Makes layers of ones, and notes which."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, target: str) -> Factors:
        self.made.append(target)
        return Factors(np.ones((1, 2), np.float32), np.ones((3, 1), np.float32))


def test_a_layer_is_made_once_for_both_of_its_factors() -> None:
    maker = Maker()
    found = dict(Layers(SHAPES, maker))
    assert {name: value.shape for name, value in found.items()} == SHAPES
    assert maker.made == ["k", "q"]


def test_no_layer_is_kept_beside_the_last() -> None:
    maker = Maker()
    layers = Layers(SHAPES, maker)
    assert [layers[name].shape for name in ("k.lora_A", "q.lora_A", "k.lora_B")]
    assert maker.made == ["k", "q", "k"]


def test_other_names_are_no_tensors() -> None:
    with pytest.raises(KeyError):
        Layers(SHAPES, Maker())["v.lora_A"]
    assert len(Layers(SHAPES, Maker())) == 4
