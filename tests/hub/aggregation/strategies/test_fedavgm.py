"""Momentum at the hub, by hand on three numbers."""

import numpy as np
import pytest

from hub.aggregation.server_step import step_tensor
from hub.aggregation.strategies.fedavgm import FedAvgM


def test_two_rounds() -> None:
    # β = 0.5, η = 2. Δ₁ = (1, 0, -2): v = Δ₁, w = 2 Δ₁ = (2, 0, -4).
    # Δ₂ = (1, 1, 0): v = (0.5, 0, -1) + Δ₂ = (1.5, 1, -1), w = (2, 0, -4) + 2 v = (5, 2, -6).
    server = FedAvgM(lr=2.0, momentum=0.5).server
    zero = np.zeros(3, dtype=np.float32)
    first = step_tensor(zero, zero + np.float32([1, 0, -2]), 1.0, server, None)
    np.testing.assert_allclose(first.value, [2, 0, -4])
    second = step_tensor(first.value, first.value + np.float32([1, 1, 0]), 1.0, server, first.kept)
    np.testing.assert_allclose(second.value, [5, 2, -6])
    np.testing.assert_allclose(second.kept["velocity"], [1.5, 1, -1])


def test_a_mean_of_which_half_is_taken_enters_by_half() -> None:
    zero = np.zeros(3, dtype=np.float32)
    one = step_tensor(zero, np.float32([2, 4, 6]), 0.5, FedAvgM().server, None)
    np.testing.assert_allclose(one.value, [1, 2, 3])


@pytest.mark.parametrize("rounds", [1, 5])
def test_without_momentum_it_is_fedavg(rounds: int) -> None:
    server = FedAvgM(lr=1.0, momentum=0.0).server
    value, kept = np.float32([1, 2, 3]), None
    for round_ in range(rounds):
        mean = value + np.float32([round_, -1, 0.5])
        one = step_tensor(value, mean, 1.0, server, kept)
        np.testing.assert_allclose(one.value, mean, rtol=1e-6)
        value, kept = one.value, one.kept
