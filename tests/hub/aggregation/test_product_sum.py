"""Sums of products, in memory and in a file, against matrices written out."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.aggregation import product_sum
from hub.aggregation.product_sum import ProductSum


@pytest.fixture(params=["in memory", "in a file"], autouse=True)
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_sum, "KEPT_BYTES", 2**30 if request.param == "in memory" else 0)


def test_by_hand() -> None:
    # (1 2)ᵀ (1 0) + (0 4)ᵀ (0 1) = [[1, 0], [2, 4]]; of norm √21.
    total = ProductSum(2, 2)
    assert total.norm() == 0.0
    total.add(np.array([[1.0], [2]]), np.array([[1.0, 0]]))
    total.add(np.array([[0.0], [4]]), np.array([[0.0, 1]]))
    assert total.norm() == pytest.approx(21**0.5)
    np.testing.assert_allclose(total.along(np.array([[1.0], [1]])), [[1], [6]])


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.integers(1, 90), max_size=12),
)
def test_it_is_the_sum_however_many_columns_there_are(
    seed: int, shape: tuple[int, int], ranks: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    total, wanted = ProductSum(*shape), np.zeros(shape)
    for rank in [1, *ranks]:
        b, a = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
        total.add(b, a)
        wanted += b @ a
        # In between as well: whatever is read changes nothing.
        assert total.norm() == pytest.approx(float(np.linalg.norm(wanted)), rel=1e-9)
    columns = rng.standard_normal((shape[1], 3))
    np.testing.assert_allclose(total.along(columns), wanted @ columns, rtol=1e-8, atol=1e-8)
    u, s, vt = total.components(min(shape), rng.standard_normal((2, shape[1])))
    np.testing.assert_allclose((u * s) @ vt, wanted, rtol=1e-8, atol=1e-8)
    assert np.all(np.diff(s) <= 0)


def test_what_cancels_cancels_to_the_last_bits() -> None:
    # Gram matrices would leave a norm of 1e-8 or so: the root of what rounding leaves.
    rng = np.random.default_rng(1)
    total = ProductSum(60, 50)
    b, a = rng.standard_normal((60, 4)), rng.standard_normal((4, 50))
    total.add(b, a)
    total.add(-b, a)
    assert total.norm() <= 1e-13 * float(np.linalg.norm(b @ a))


def test_the_best_approximation_is_found_whatever_the_spectrum() -> None:
    # Values that fall slowly: 1, 1/2, 1/3, ..., 1/200. The best error of rank 16 is what is left.
    rng = np.random.default_rng(2)
    values = 1.0 / np.arange(1, 201)
    u = np.linalg.qr(rng.standard_normal((300, 200)))[0]
    v = np.linalg.qr(rng.standard_normal((250, 200)))[0]
    total = ProductSum(300, 250)
    for at in range(0, 200, 20):  # any order, any split
        total.add(u[:, at : at + 20] * values[at : at + 20], v[:, at : at + 20].T)
    found_u, s, vt = total.components(16, v[:, :3].T)
    np.testing.assert_allclose(s, values[:16], rtol=1e-7)
    missed = np.linalg.norm((u * values) @ v.T - (found_u * s) @ vt)
    assert missed == pytest.approx(float(np.linalg.norm(values[16:])), rel=1e-7)
    np.testing.assert_allclose(vt @ vt.T, np.eye(16), atol=1e-12)


def test_nothing_has_no_components() -> None:
    empty = ProductSum(5, 4)
    empty.add(np.zeros((5, 2)), np.ones((2, 4)))
    made = empty.truncated(3, 1.0, np.eye(4)[:3])
    assert not made.b.any()
    np.testing.assert_allclose(made.a, np.eye(4)[:3], atol=1e-7)
