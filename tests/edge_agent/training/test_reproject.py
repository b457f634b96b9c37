"""A residual product finds its way into the factors of another round."""

import numpy as np
import pytest

from edge_agent.training.reproject import Product, difference, reproject

OUT, IN, RANK = 24, 40, 4


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def factors(rank: int = RANK, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return B and A; A's rows are orthonormal, as after every round."""
    a = np.linalg.qr(normal(IN, rank, seed=seed))[0].T
    return normal(OUT, rank, seed=seed), np.ascontiguousarray(a, np.float32)


def dense(product: Product) -> np.ndarray:
    return product.left.astype(np.float64) @ product.right


def moved(b: np.ndarray, a: np.ndarray, moves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how the product moves, to first order."""
    return b.astype(np.float64) @ moves[1] + moves[0].astype(np.float64) @ a


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_a_difference_of_products_is_exact() -> None:
    b, a = factors()
    wanted, sent = (normal(OUT, 4, seed=2), normal(4, IN, seed=3)), (normal(OUT, 4), normal(4, IN))
    lacking = difference(b, a, wanted, sent)
    by_hand = (b + wanted[0]) @ (a + wanted[1]) - (b + sent[0]) @ (a + sent[1])
    assert dense(lacking) == pytest.approx(by_hand, abs=1e-4)
    assert lacking.left.shape == (OUT, 8)
    assert lacking.right.shape == (8, IN)


def test_one_entry_by_hand() -> None:
    # B = 3, A = 4, E = 50: the shortest (dB, dA) with 3 dA + 4 dB = 50 is (8, 6).
    one = [np.array([[value]], np.float32) for value in (3.0, 4.0, 50.0, 1.0)]
    d_b, d_a = reproject(Product(one[2], one[3]), one[0], one[1])
    assert (d_b.item(), d_a.item()) == pytest.approx((8.0, 6.0), rel=1e-5)


def test_a_turned_basis_keeps_the_product() -> None:
    b, a = factors()
    residual = Product(*(np.hstack([normal(OUT, RANK), b]), np.vstack([a, normal(RANK, IN)])))
    turn = np.linalg.qr(normal(RANK, RANK, seed=9))[0].astype(np.float32)
    new_b, new_a = b @ turn.T, turn @ a
    moves = reproject(residual, new_b, new_a)
    assert relative(moved(new_b, new_a, moves), dense(residual)) < 1e-4
    # And so it is in a basis that is skewed, too.
    skew = normal(RANK, RANK, seed=8) + 3 * np.eye(RANK, dtype=np.float32)
    new_b, new_a = b @ np.linalg.inv(skew), skew @ a
    moves = reproject(residual, new_b, new_a)
    assert relative(moved(new_b, new_a, moves), dense(residual)) < 1e-4


def test_the_moves_are_the_nearest_and_of_the_nearest_the_shortest() -> None:
    # Against numpy's own least squares over all numbers of both moves.
    b, a = factors(rank=2)
    b, a, residual = b[:6], a[:, :7], Product(normal(6, 5), normal(5, 7))
    columns = [np.outer(b[:, j], np.eye(7)[k]).ravel() for j in range(2) for k in range(7)]
    columns += [np.outer(np.eye(6)[i], a[j]).ravel() for i in range(6) for j in range(2)]
    best = np.linalg.lstsq(np.array(columns).T, dense(residual).ravel(), rcond=None)[0]
    d_b, d_a = reproject(residual, b, a)
    found = np.concatenate([d_a.ravel(), d_b.ravel()])
    assert relative(found, best) < 1e-3  # the ridge shows


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_the_rank_may_differ(rank: int) -> None:
    old_b, old_a = factors()
    residual = Product(np.hstack([normal(OUT, RANK), old_b]), np.vstack([old_a, normal(RANK, IN)]))
    b, a = factors(rank, seed=5)
    if rank > RANK:  # the old directions are among the new ones: nothing is lost
        b[:, :RANK], a[:RANK] = old_b, old_a
    d_b, d_a = reproject(residual, b, a)
    assert (d_b.shape, d_a.shape) == (b.shape, a.shape)
    left = dense(residual) - moved(b, a, (d_b, d_a))
    if rank > RANK:
        assert np.linalg.norm(left) < 1e-3 * np.linalg.norm(dense(residual))
    # What is left lies in neither factor's reach.
    assert np.abs(b.T @ left).max() < 0.02
    assert np.abs(left @ a.T).max() < 0.02


def test_where_b_is_zero_all_goes_into_b() -> None:
    _, a = factors()
    b = np.zeros((OUT, RANK), np.float32)
    residual = Product(normal(OUT, RANK), a)
    d_b, d_a = reproject(residual, b, a)
    assert not d_a.any()
    assert d_b == pytest.approx(residual.left, rel=1e-4, abs=1e-5)


def test_directions_that_hardly_count_are_not_blown_up() -> None:
    # One column of B is a millionth of the other: without the ridge its row would move by 1e6.
    b, a = factors(rank=2)
    b[:, 1] = 1e-6 * b[:, 1]
    d_b, d_a = reproject(Product(normal(OUT, 3), normal(3, IN)), b, a)
    assert max(np.abs(d_b).max(), np.abs(d_a).max()) < 100


def test_factors_of_zeros_do_not_move() -> None:
    zeros = np.zeros((OUT, 2), np.float32), np.zeros((2, IN), np.float32)
    d_b, d_a = reproject(Product(normal(OUT, 3), normal(3, IN)), *zeros)
    assert not d_b.any()
    assert not d_a.any()
