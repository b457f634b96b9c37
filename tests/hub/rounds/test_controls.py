"""Control variates from blobs to blobs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import Trained
from hub.aggregation.strategies.scaffold import OptionTwo
from hub.rounds.controls import Controls, advance
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.errors import MalformedError
from wire.tensors import PackedFile, pack

SHAPES = {"prompt": (1, 3)}
RULE = OptionTwo()


class Hub:
    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder)

    def update(self, device: str, numbers: list[float], steps: int = 2) -> tuple[Trained, Path]:
        tensors = {"prompt": np.array([numbers], dtype=np.float32)}
        path = self.store.path(self.store.put(pack(tensors, by_name("raw"), 0)))
        assert path is not None
        return Trained(device, 100, 0, steps=steps, lr=0.5), path

    def read(self, sha256: str | None) -> list[float]:
        assert sha256 is not None
        path = self.store.path(sha256)
        assert path is not None
        with PackedFile.open(path, SHAPES) as packed:
            return packed.get("prompt")[0].tolist()

    def advance(self, before: Controls, *updates: tuple[Trained, Path]) -> Controls:
        return advance(self.store, SHAPES, before, updates, RULE)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


NONE = Controls(None, {})


def test_three_rounds_by_hand(hub: Hub) -> None:
    """K η = 1, so c_i⁺ = c_i − c − Δ."""
    one = hub.advance(NONE, hub.update("a", [-2, 0, 0]), hub.update("b", [0, -4, 0]))
    assert hub.read(one.own["a"]) == [2, 0, 0]
    assert hub.read(one.own["b"]) == [0, 4, 0]
    assert hub.read(one.common) == [1, 2, 0]
    # a alone: (2, 0, 0) − (1, 2, 0) − (−1, 1, −2) = (2, −3, 2); the mean with b's (0, 4, 0).
    two = hub.advance(one, hub.update("a", [-1, 1, -2]))
    assert hub.read(two.own["a"]) == [2, -3, 2]
    assert two.own["b"] == one.own["b"]
    assert hub.read(two.common) == [1, 0.5, 1]
    # c comes for the first time: −(1, 0.5, 1) − (−4, 0, 0) = (3, −0.5, −1), a third of all.
    three = hub.advance(two, hub.update("c", [-4, 0, 0]))
    assert hub.read(three.own["c"]) == [3, -0.5, -1]
    np.testing.assert_allclose(hub.read(three.common), [5 / 3, 0.5 / 3, 1 / 3], rtol=1e-6)


def test_a_round_without_anybody_leaves_them(hub: Hub) -> None:
    assert hub.advance(NONE) == NONE
    one = hub.advance(NONE, hub.update("a", [-2, 0, 0]))
    assert hub.advance(one) == one


def test_a_blob_that_is_gone_is_said_so(hub: Hub) -> None:
    one = hub.advance(NONE, hub.update("a", [-2, 0, 0]))
    hub.store.delete(one.own["a"])
    with pytest.raises(MalformedError, match="state is gone"):
        hub.advance(one, hub.update("a", [1, 0, 0]))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_the_common_one_is_the_mean_whoever_comes_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    numbers = st.lists(st.floats(-3, 3, width=16), min_size=3, max_size=3)
    state = NONE
    for _ in range(3):
        cohort = data.draw(st.lists(st.sampled_from("abcd"), unique=True))
        updates = [hub.update(one, data.draw(numbers)) for one in cohort]
        after = hub.advance(state, *updates)
        assert hub.advance(state, *reversed(updates)).own == after.own
        state = after
        if state.own:
            mean = np.mean([hub.read(one) for one in state.own.values()], axis=0)
            np.testing.assert_allclose(hub.read(state.common), mean, atol=1e-4)
