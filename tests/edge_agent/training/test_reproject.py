"""What an update lacks finds its way into the factors of another round."""

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


def orthogonal(rank: int) -> np.ndarray:
    return np.linalg.qr(normal(rank, rank, seed=9))[0].astype(np.float32)


def beside(b: np.ndarray, a: np.ndarray) -> tuple[Product, np.ndarray, np.ndarray]:
    """Return a residual of these factors, and its own moves."""
    e_b, e_a = normal(*b.shape, seed=4), normal(*a.shape, seed=5)
    return Product(np.hstack([e_b, b]), np.vstack([a, e_a])), e_b, e_a


def dense(product: Product) -> np.ndarray:
    return product.left.astype(np.float64) @ product.right


def moved(b: np.ndarray, a: np.ndarray, moves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how the product moves, to first order."""
    return b.astype(np.float64) @ moves[1] + moves[0].astype(np.float64) @ a


def test_a_difference_of_products_is_exact() -> None:
    b, a = factors()
    wanted, sent = (normal(OUT, 4, seed=2), normal(4, IN, seed=3)), (normal(OUT, 4), normal(4, IN))
    lacking = difference(b, a, wanted, sent)
    by_hand = (b + wanted[0]) @ (a + wanted[1]) - (b + sent[0]) @ (a + sent[1])
    assert dense(lacking) == pytest.approx(by_hand, abs=1e-4)
    assert lacking.left.shape == (OUT, 8)
    assert lacking.right.shape == (8, IN)


def test_two_components_that_changed_places_by_hand() -> None:
    # A' holds the rows of A in the other order, and one of them with the other sign.
    a = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    b = np.array([[2, 0], [0, 1]], np.float32)
    e_a = np.array([[0, 0, 5], [0, 0, 7]], np.float32)
    e_b = np.array([[3, 4], [0, 0]], np.float32)
    residual = Product(np.hstack([e_b, b]), np.vstack([a, e_a]))
    d_b, d_a = reproject(
        residual,
        np.array([[0, 2], [-1, 0]], np.float32),
        np.array([[0, -1, 0], [1, 0, 0]], np.float32),
    )
    assert d_a == pytest.approx(np.array([[0, 0, -7], [0, 0, 5]]))
    assert d_b == pytest.approx(np.array([[-4, 3], [0, 0]]))


def test_a_turned_basis_keeps_the_product() -> None:
    b, a = factors()
    residual, _, _ = beside(b, a)
    turn = orthogonal(RANK)
    new_b, new_a = b @ turn.T, turn @ a
    moves = reproject(residual, new_b, new_a)
    assert moved(new_b, new_a, moves) == pytest.approx(dense(residual), abs=1e-4)
    # To second order, too: nothing but the basis has changed.
    assert moves[0] @ moves[1] == pytest.approx(residual.left[:, :4] @ residual.right[4:], abs=1e-4)


def test_moves_are_as_long_as_what_is_lacking_whatever_the_new_factors_are() -> None:
    # One column of the new B is a millionth of the others: pseudo-inverses would move by 1e6.
    b, a = factors()
    residual, e_b, e_a = beside(b, a)
    new_b, new_a = factors(seed=7)
    new_b[:, 1] *= 1e-6
    d_b, d_a = reproject(residual, new_b, new_a)
    assert np.linalg.norm(d_b) == pytest.approx(np.linalg.norm(e_b), rel=1e-4)
    assert np.linalg.norm(d_a) == pytest.approx(np.linalg.norm(e_a), rel=1e-4)


def test_a_lower_rank_takes_what_belongs_to_the_components_that_it_trains() -> None:
    b, a = factors()
    residual, e_b, e_a = beside(b, a)
    d_b, d_a = reproject(residual, b[:, :2], a[:2])
    # Rows of A are orthonormal, columns of B nearly so: the two first components are themselves.
    assert d_a == pytest.approx(e_a[:2], abs=0.5)
    assert d_b.shape == (OUT, 2)
    old_b = np.linalg.qr(b)[0].astype(np.float32)  # exactly so
    exact = Product(np.hstack([e_b, old_b]), residual.right)
    d_b, d_a = reproject(exact, old_b[:, :2], a[:2])
    assert d_a == pytest.approx(e_a[:2], abs=1e-5)
    assert d_b == pytest.approx(e_b[:, :2], abs=1e-5)


def test_a_higher_rank_keeps_the_product() -> None:
    b, a = factors()
    residual, _, _ = beside(b, a)
    more_b, more_a = factors(7, seed=5)
    # New components that have nothing to do with the old ones.
    more_a[4:] -= more_a[4:] @ a.T @ a
    more_b[:, 4:] -= b @ np.linalg.pinv(b) @ more_b[:, 4:]
    more_b[:, :4], more_a[:4] = b, a
    turn = orthogonal(7)
    new_b, new_a = more_b @ turn.T, turn @ more_a
    moves = reproject(residual, new_b, new_a)
    assert moved(new_b, new_a, moves) == pytest.approx(dense(residual), abs=1e-4)


def test_where_b_is_zero_a_tells_how_the_basis_turned() -> None:
    _, a = factors()
    b = np.zeros((OUT, RANK), np.float32)
    residual, e_b, e_a = beside(b, a)
    turn = orthogonal(RANK)
    d_b, d_a = reproject(residual, b, turn @ a)
    assert d_a == pytest.approx(turn @ e_a, abs=1e-5)
    assert d_b == pytest.approx(e_b @ turn.T, abs=1e-5)


def test_what_is_no_number_is_an_error() -> None:
    b, a = factors()
    residual, _, _ = beside(b, a)
    with pytest.raises(np.linalg.LinAlgError):
        reproject(residual, np.full_like(b, np.nan), a)
