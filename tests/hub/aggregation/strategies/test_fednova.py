"""FedNova's weights by hand and by the closed forms of the paper's section 4."""

import numpy as np
import pytest

from hub.aggregation.contract import AggregationError, Trained
from hub.aggregation.strategies.fednova import STRATEGY, FedNova


def trained(device: str, steps: int, **facts: float) -> Trained:
    return Trained(device, tokens=100, staleness=0, steps=steps, **facts)


def test_plain_steps_divide_and_the_mean_number_of_steps_multiplies() -> None:
    # p = 1/2 each, steps 1 and 3: the mean is 2, so 2 · 1/2 / 1 and 2 · 1/2 / 3.
    assert STRATEGY.weights([trained("a", 1), trained("b", 3)]) == pytest.approx([1, 1 / 3])


def test_devices_of_unequal_steps_but_one_gradient_move_as_far_as_their_mean() -> None:
    """Two devices, gradient g = (1, -2, 4), rate 0.1: both goals are one, whoever does more steps.

    They moved by -0.1 · 2 g and -0.1 · 6 g. Half of each is -0.4 g, and so is 4 steps: four is the
    mean number. FedAvg would give the same here; with gradients (3, 0, 0) and (0, 3, 0) FedAvg
    moves by (-0.3, -0.9, 0), FedNova by 4 · 0.1 · (-1.5, -1.5, 0).
    """
    first, second = STRATEGY.weights([trained("a", 2), trained("b", 6)])
    g = np.array([1.0, -2.0, 4.0])
    np.testing.assert_allclose(first * -0.2 * g + second * -0.6 * g, -0.4 * g)
    moved = first * np.array([-0.6, 0, 0]) + second * np.array([0, -1.8, 0])
    np.testing.assert_allclose(moved, [-0.6, -0.6, 0])


def test_more_tokens_and_more_steps() -> None:
    # p = 1/4, 3/4; steps 4 and 8: the mean is 7; 7 · 1/4 / 4 and 7 · 3/4 / 8.
    updates = [Trained("a", 100, 0, steps=4), Trained("b", 300, 0, steps=8)]
    assert STRATEGY.weights(updates) == pytest.approx([7 / 16, 21 / 32])


@pytest.mark.parametrize(
    ("mu", "facts", "length"),
    [
        (0.0, {"lr": 0.1}, 4.0),
        # (τ − ρ (1 − ρ^τ) / (1 − ρ)) / (1 − ρ) = (4 − 0.9375) / 0.5; 1 + 1.5 + 1.75 + 1.875.
        (0.0, {"lr": 0.1, "momentum": 0.5}, 6.125),
        # (1 − (1 − ημ)^τ) / (ημ) = (1 − 0.0625) / 0.5; 1 + 0.5 + 0.25 + 0.125.
        (5.0, {"lr": 0.1}, 1.875),
        # d: 1, then u = 0.5 − 0.5 = 0: 1, then u = 0 − 0.5: 0.5, then u = −0.25 − 0.25: 0.
        (5.0, {"lr": 0.1, "momentum": 0.5}, 2.5),
    ],
)
def test_four_steps_reach_as_far_as_the_paper_says(
    mu: float, facts: dict[str, float], length: float
) -> None:
    # Against one plain step, of length 1: p = 1/2, τ_eff = (1 + length) / 2.
    first, second = FedNova(mu=mu).weights([trained("a", 4, **facts), trained("b", 1, **facts)])
    assert second / first == pytest.approx(length)
    assert second == pytest.approx((1 + length) / 4)


def test_lengths_are_those_of_real_steps_with_momentum_and_pull() -> None:
    """The length is how far a device goes on a constant gradient of 1, in units of the rate."""
    rate, mu, rho, steps = 0.05, 1.5, 0.8, 9
    at, velocity = 0.0, 0.0
    for _ in range(steps):
        velocity = rho * velocity + 1 + mu * at
        at -= rate * velocity
    first, second = FedNova(mu=mu).weights(
        [trained("a", steps, lr=rate, momentum=rho), trained("b", 1, lr=rate, momentum=rho)]
    )
    assert second / first == pytest.approx(-at / rate)


def test_a_pull_that_throws_the_device_about_is_refused() -> None:
    # ημ = 3: 1, −2, ...: two steps come to −1.
    with pytest.raises(AggregationError, match=r"Lower server\.mu"):
        FedNova(mu=3.0).weights([trained("a", 2, lr=1.0)])


def test_the_devices_are_told_mu() -> None:
    assert FedNova(mu=0.5).local.proximal_mu == 0.5
    assert STRATEGY.local.proximal_mu == 0.0
