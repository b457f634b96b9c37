"""FedYogi's step by hand on three numbers, and against FedAdam's."""

import numpy as np
import pytest

from hub.aggregation.strategies.fedyogi import FedYogi


def test_two_steps_by_hand() -> None:
    # τ = 1, so v₀ = 1. Δ = (2, 0, -1): v grows by 4/2, stays, stays (sign of 1 - 1 is 0).
    yogi = FedYogi(lr=2.0, beta1=0.5, beta2=0.5, tau=1.0)
    moved, kept = yogi.step(np.array([2.0, 0, -1]), None)
    np.testing.assert_allclose(kept["first"], [1, 0, -0.5])
    np.testing.assert_allclose(kept["second"], [3, 1, 1])
    np.testing.assert_allclose(moved, [2 / (1 + 3**0.5), 0, -1 / 2])
    # Δ = (1, 2, 0): Δ² = (1, 4, 0): v = 3 - 1/2, 1 + 4/2, 1 - 0.
    moved, kept = yogi.step(np.array([1.0, 2, 0]), kept)
    np.testing.assert_allclose(kept["first"], [1, 1, -0.25])
    np.testing.assert_allclose(kept["second"], [2.5, 3, 1])
    np.testing.assert_allclose(moved, [2 / (1 + 2.5**0.5), 2 / (1 + 3**0.5), -0.25])


@pytest.mark.parametrize("rounds", [1, 20])
def test_the_mean_square_falls_by_what_comes_and_not_by_a_share(rounds: int) -> None:
    """Adam's v would shrink by a half each round; Yogi's loses 1/2 of 0.01 a round."""
    yogi = FedYogi(beta2=0.5, tau=2.0)
    kept = None
    for _ in range(rounds):
        _, kept = yogi.step(np.full(3, 0.1), kept)
    assert kept is not None
    np.testing.assert_allclose(kept["second"], 4 - 0.005 * rounds)
