"""SCAFFOLD's option II by hand, and on the example that FedAvg fails (section 5 of the paper)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.aggregation.contract import Trained
from hub.aggregation.strategies.scaffold import STRATEGY, OptionTwo, Scaffold


def test_a_control_variate_by_hand() -> None:
    # c_i − c + (x − y) / (K η): K = 2, η = 0.5, so it is c_i − c − Δ.
    after = OptionTwo().after(
        np.array([1.0, 0, 2]), np.array([0.5, 0, 0]), np.array([-3.0, 1, 0]), steps=2, lr=0.5
    )
    np.testing.assert_allclose(after, [3.5, -1, 2])


@given(
    gradient=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    steps=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_with_a_constant_gradient_the_control_variate_is_that_gradient(
    gradient: list[float], steps: int, seed: int
) -> None:
    """Whatever it was before: y moved by −K η (g + c − c_i)."""
    own, common = np.random.default_rng(seed).normal(size=(2, 3))
    moved = -steps * 0.1 * (np.array(gradient) + common - own)
    after = OptionTwo().after(own, common, moved, steps, 0.1)
    np.testing.assert_allclose(after, gradient, atol=1e-9)


def test_two_devices_that_pull_apart_meet_at_the_common_minimum() -> None:
    """f₁ = (x + 1)², f₂ = 4 (x − 2)²: the sum's minimum is 1.4, which FedAvg doesn't find.

    Its fixed point is where both devices' ways cancel: (1 − 0.8^K) (−1 − x) = (1 − 0.2^K) (x − 2)
    at η = 0.1, K = 10: 0.8926 and 1.0, so x = (2.0 − 0.8926) / 1.8926 = 0.585.
    """
    slopes = [lambda x: 2 * (x + 1), lambda x: 8 * (x - 2)]
    for corrected, expected in ((False, 0.585), (True, 1.4)):
        x, own = np.zeros(1), [np.zeros(1), np.zeros(1)]
        for _ in range(300):
            common = sum(own) / 2
            ways = []
            for index, slope in enumerate(slopes):
                y = x.copy()
                for _ in range(10):
                    y -= 0.1 * (slope(y) + (common - own[index] if corrected else 0))
                ways.append(y - x)
            if corrected:
                own = [
                    OptionTwo().after(one, common, way, 10, 0.1)
                    for one, way in zip(own, ways, strict=True)
                ]
            x += sum(ways) / 2
        assert x[0] == pytest.approx(expected, abs=1e-3)


def test_each_device_counts_the_same_and_the_hubs_rate_multiplies() -> None:
    updates = [Trained("a", 1, 0), Trained("b", 900, 0)]
    assert STRATEGY.weights(updates) == pytest.approx([0.5, 0.5])
    assert Scaffold(lr=0.5).weights(updates) == pytest.approx([0.25, 0.25])


def test_it_asks_for_plain_steps() -> None:
    assert STRATEGY.local.kept == 1
    assert dict(STRATEGY.local.needs) == {
        "optimizer": "sgd",
        "momentum": 0.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "clip": None,
    }
