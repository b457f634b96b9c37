"""Sums of products against dense matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.aggregation.contract import Factors
from hub.aggregation.products import combined


def drawn(rng: np.random.Generator, out: int, width: int, rank: int) -> Factors:
    a, b = rng.normal(size=(rank, width)), rng.normal(size=(out, rank))
    return Factors(a.astype(np.float32), b.astype(np.float32))


def dense(factors: Factors) -> np.ndarray:
    return factors.b.astype(np.float64) @ factors.a.astype(np.float64)


def test_by_hand() -> None:
    # 2 · diag(3, 0, 0) + diag(0, 5, 1) = diag(6, 5, 1), of which two components are kept.
    first = Factors(np.float32([[1, 0, 0]]), np.float32([[3], [0], [0]]))
    second = Factors(np.float32([[0, 1, 0], [0, 0, 1]]), np.float32([[0, 0], [5, 0], [0, 1]]))
    found = combined([(2.0, first), (1.0, second)], 2)
    np.testing.assert_allclose(dense(found), np.diag([6, 5, 0]), atol=1e-6)
    np.testing.assert_allclose(found.a, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


@given(
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    rank=st.integers(1, 12),
)
def test_the_result_is_the_best_of_its_rank(
    seed: int, sizes: tuple[int, int], ranks: list[int], rank: int
) -> None:
    rng = np.random.default_rng(seed)
    terms = [(float(rng.normal()), drawn(rng, *sizes, one)) for one in ranks]
    exact = sum(factor * dense(one) for factor, one in terms)
    u, s, vt = np.linalg.svd(exact)
    best = (u[:, : len(s)] * np.where(np.arange(len(s)) < rank, s, 0)) @ vt[: len(s)]
    found = combined(terms, rank)
    np.testing.assert_allclose(dense(found), best, atol=1e-4)
    assert found.a.shape == (rank, sizes[1])
    assert found.b.shape == (sizes[0], rank)


def test_terms_that_cancel_leave_nothing() -> None:
    one = drawn(np.random.default_rng(1), 6, 5, 2)
    found = combined([(1.0, one), (-1.0, one)], 2)
    assert not found.b.any()
    assert not found.a.any()


@pytest.mark.parametrize("rank", [3, 5])
def test_rows_that_the_sum_lacks_come_from_the_old_ones(rank: int) -> None:
    one = Factors(np.float32([[1, 0, 0, 0, 0]]), np.float32([[2], [0]]))
    found = combined([(1.0, one)], rank, np.eye(5)[::-1])
    np.testing.assert_allclose(found.a @ found.a.T, np.eye(rank), atol=1e-6)
    assert found.a[1].tolist() == [0, 0, 0, 0, 1]
    assert not found.b[:, 1:].any()
