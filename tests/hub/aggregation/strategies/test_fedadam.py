"""FedAdam's step by hand on three numbers, and in its limits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hub.aggregation.server_step import step_tensor
from hub.aggregation.strategies.fedadam import FedAdam

ENTRIES = st.lists(st.floats(-5, 5), min_size=3, max_size=3)


def test_two_steps_by_hand() -> None:
    # τ = 1, so v₀ = 1. Δ = (2, 0, -4): m = (1, 0, -2), v = 1/2 + Δ²/2 = (2.5, 0.5, 8.5).
    adam = FedAdam(lr=2.0, beta1=0.5, beta2=0.5, tau=1.0)
    moved, kept = adam.step(np.array([2.0, 0, -4]), None)
    np.testing.assert_allclose(kept["first"], [1, 0, -2])
    np.testing.assert_allclose(kept["second"], [2.5, 0.5, 8.5])
    np.testing.assert_allclose(moved, [2 / (1 + 2.5**0.5), 0, -4 / (1 + 8.5**0.5)])
    # Δ = (0, 1, 0): m = (0.5, 0.5, -1), v = (1.25, 0.75, 4.25).
    moved, kept = adam.step(np.array([0.0, 1, 0]), kept)
    np.testing.assert_allclose(kept["first"], [0.5, 0.5, -1])
    np.testing.assert_allclose(kept["second"], [1.25, 0.75, 4.25])
    expected = [1 / (1 + 1.25**0.5), 1 / (1 + 0.75**0.5), -2 / (1 + 4.25**0.5)]
    np.testing.assert_allclose(moved, expected)


@given(difference=ENTRIES)
def test_without_memory_each_entry_moves_by_its_sign_at_most(difference: list[float]) -> None:
    delta = np.array(difference)
    moved, _ = FedAdam(lr=0.1, beta1=0.0, beta2=0.0, tau=1e-3).step(delta, None)
    np.testing.assert_allclose(moved, 0.1 * delta / (np.abs(delta) + 1e-3))
    assert np.abs(moved).max() <= 0.1


@given(differences=st.lists(ENTRIES, min_size=1, max_size=5))
def test_with_a_large_tau_it_is_momentum(differences: list[list[float]]) -> None:
    """√v + τ is 2 τ at first and for long: the step is η m / (2 τ), as section 4 of the paper."""
    adam = FedAdam(lr=2.0 * 1e6, beta1=0.9, beta2=0.99, tau=1e6)
    kept, mean = None, np.zeros(3)
    for difference in differences:
        mean = 0.9 * mean + 0.1 * np.array(difference)
        moved, kept = adam.step(np.array(difference), kept)
        np.testing.assert_allclose(moved, mean * 2 / (1 + np.sqrt(kept["second"]) / 1e6), rtol=1e-9)
        np.testing.assert_allclose(kept["first"], mean)


def test_what_is_kept_survives_in_float32() -> None:
    value = np.float32([1, 2, 3])
    one = step_tensor(value, value + np.float32([2, 0, -4]), 1.0, FedAdam(), None)
    assert {name: kept.dtype for name, kept in one.kept.items()} == {
        "first": np.float32,
        "second": np.float32,
    }
    assert one.value.dtype == np.float32
