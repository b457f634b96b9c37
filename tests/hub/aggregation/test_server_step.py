"""The hub's step on products, against the same step on dense matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import Factors, Momentum
from hub.aggregation.server_step import (
    slots_of,
    step_product,
    step_tensor,
    velocity_rank,
)

HEAVY = Momentum(decay=0.9, fresh=0.0, carried=1.0)
NESTEROV = Momentum(decay=0.9, fresh=0.7, carried=0.63)


def drawn(rng: np.random.Generator, out: int, width: int, rank: int) -> Factors:
    a, b = rng.normal(size=(rank, width)), rng.normal(size=(out, rank))
    return Factors(a.astype(np.float32), b.astype(np.float32))


def dense(factors: Factors) -> np.ndarray:
    return factors.b.astype(np.float64) @ factors.a.astype(np.float64)


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def diagonal(*numbers: float) -> Factors:
    return Factors(np.eye(3, dtype=np.float32), np.diag(numbers).astype(np.float32))


def test_momentum_on_a_product_by_hand() -> None:
    # β = 0.5, η = 1: diag(1, 2, 3) → mean diag(2, 2, 3): v = diag(1, 0, 0), next diag(2, 2, 3);
    # mean diag(2, 4, 3): v = diag(0.5, 2, 0), next diag(2.5, 4, 3).
    server = Momentum(decay=0.5, fresh=0.0, carried=1.0)
    first = step_product(diagonal(1, 2, 3), diagonal(2, 2, 3), 1.0, server, None)
    np.testing.assert_allclose(dense(first.value), np.diag([2, 2, 3]), atol=1e-6)
    second = step_product(first.value, diagonal(2, 4, 3), 1.0, server, first.velocity)
    np.testing.assert_allclose(dense(second.value), np.diag([2.5, 4, 3]), atol=1e-6)
    assert second.velocity is not None
    np.testing.assert_allclose(dense(second.velocity), np.diag([0.5, 2, 0]), atol=1e-6)


def test_momentum_acts_on_the_product_not_on_its_factors() -> None:
    """The same product in a turned basis gives the same step; averaged factors would not."""
    rng = np.random.default_rng(3)
    current, mean, velocity = (drawn(rng, 6, 5, 2) for _ in range(3))
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0].astype(np.float32)
    turned = Factors(turn @ mean.a, mean.b @ turn.T)
    one = step_product(current, mean, 1.0, HEAVY, velocity)
    other = step_product(current, turned, 1.0, HEAVY, velocity)
    np.testing.assert_allclose(dense(one.value), dense(other.value), atol=1e-5)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 999),
    server=st.sampled_from([HEAVY, NESTEROV]),
    share=st.sampled_from([1.0, 0.5, 1.25]),
)
def test_rounds_on_products_are_those_on_dense_matrices(
    seed: int, server: Momentum, share: float
) -> None:
    """Sizes at which twice the rank is all there is: nothing is cut off the momentum."""
    rng = np.random.default_rng(seed)
    rank, out, width = 2, 4, 6
    value, velocity = drawn(rng, out, width, rank), None
    matrix, momentum = dense(value), np.zeros((out, width))
    for _ in range(4):
        mean = drawn(rng, out, width, rank)
        one = step_product(value, mean, share, server, velocity)
        difference = share * (dense(mean) - matrix)
        momentum = server.decay * momentum + difference
        expected = best(matrix + server.fresh * difference + server.carried * momentum, rank)
        np.testing.assert_allclose(dense(one.value), expected, atol=2e-3)
        value, velocity = one.value, one.velocity
        matrix = dense(value)  # the adapter's own truncation is the hub's value from then on


def test_what_is_cut_off_momentum_stays_bounded() -> None:
    """Directions that never come again: the error stays below the largest cut over 1 - β."""
    rng = np.random.default_rng(0)
    rank, out, width = 2, 24, 20
    value, velocity = drawn(rng, out, width, rank), None
    exact, cuts = np.zeros((out, width)), []
    for _ in range(30):
        mean = drawn(rng, out, width, rank)
        difference = dense(mean) - dense(value)
        before = np.zeros((out, width)) if velocity is None else dense(velocity)
        one = step_product(value, mean, 1.0, Momentum(0.5, 0.0, 0.01), velocity)
        assert one.velocity is not None
        assert one.velocity.rank == velocity_rank(rank)
        exact = 0.5 * exact + difference
        cuts.append(np.linalg.norm(0.5 * before + difference - dense(one.velocity)))
        error = np.linalg.norm(exact - dense(one.velocity))
        assert error <= max(cuts) / (1 - 0.5) + 1e-3
        value, velocity = one.value, one.velocity
    assert max(cuts) > 1  # something was cut


def test_the_first_round_without_momentum_is_the_mean() -> None:
    rng = np.random.default_rng(2)
    current, mean = drawn(rng, 9, 8, 3), drawn(rng, 9, 8, 3)
    plain = step_product(current, mean, 1.0, None, None)
    assert plain.value is mean
    one = step_product(current, mean, 1.0, Momentum(0.0, 0.0, 1.0), None)
    np.testing.assert_allclose(dense(one.value), dense(mean), atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_a_share_of_the_mean_difference(share: float) -> None:
    one = step_product(diagonal(1, 2, 3), diagonal(3, 2, 5), share, None, None)
    expected = np.diag([1 + 2 * share, 2, 3 + 2 * share])
    np.testing.assert_allclose(dense(one.value), expected, atol=1e-6)


def test_a_tensor_moves_by_a_share_of_the_mean_difference() -> None:
    one = step_tensor(np.float32([1, 2, 3]), np.float32([3, 2, 5]), 0.5, None, None)
    np.testing.assert_allclose(one.value, [2, 2, 4])
    assert slots_of(None) == ()
    assert slots_of(HEAVY) == ("velocity",)
