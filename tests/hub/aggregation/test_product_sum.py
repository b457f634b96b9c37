"""Sums of products, stacked and as a matrix, against matrices written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.product_sum import ProductSum


def test_by_hand() -> None:
    # (1 2)ᵀ (1 0) + (0 4)ᵀ (0 1) = [[1, 0], [2, 4]]; of norm √21.
    total = ProductSum(2, 2)
    assert total.norm() == 0.0
    total.add(np.array([[1.0], [2]]), np.array([[1.0, 0]]))
    total.add(np.array([[0.0], [4]]), np.array([[0.0, 1]]))
    assert total.norm() == pytest.approx(21**0.5)
    np.testing.assert_allclose(total.along(np.array([[1.0], [1]])), [[1], [6]])


@settings(deadline=None, max_examples=40)
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
    u, s, vt = total.components()
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
