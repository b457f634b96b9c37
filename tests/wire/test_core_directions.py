"""Directions of B's columns, as device and hub both find them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.core_directions import directions


def test_by_hand() -> None:
    # (3, 4) and (5, 0) in two outputs: u1 = (3, 4)/5, u2 = (4, -3)/5, each times √2.
    u, c = directions(np.array([[3, 5], [4, 0]], np.float32))
    np.testing.assert_allclose(u, np.sqrt(2) * np.array([[0.6, 0.8], [0.8, -0.6]]), rtol=1e-6)
    np.testing.assert_allclose(c, np.array([[5, 3], [0, 4]]) / np.sqrt(2), rtol=1e-6, atol=1e-7)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.integers(0, 12))
def test_they_make_b_and_are_orthogonal_and_nested(
    seed: int, out: int, rank: int, dead: int
) -> None:
    rng = np.random.default_rng(seed)
    b = (rng.standard_normal((out, rank)) * 10.0 ** rng.uniform(-3, 0, rank)).astype(np.float32)
    b[:, rng.permutation(rank)[:dead]] = 0
    u, c = directions(b)
    np.testing.assert_allclose(u @ c, b, atol=2e-5 * max(1e-6, float(np.abs(b).max(initial=0.0))))
    live = min(out, rank)
    np.testing.assert_allclose(u[:, :live].T @ u[:, :live], out * np.eye(live), atol=1e-4 * out)
    for low in range(1, rank):
        np.testing.assert_allclose(directions(b[:, :low])[0], u[:, :low], atol=1e-5)


def test_a_fresh_adapter_has_directions_too() -> None:
    u, c = directions(np.zeros((24, 3), np.float32))
    assert not c.any()
    np.testing.assert_allclose(u.T @ u, 24 * np.eye(3), atol=1e-4)
    again, _ = directions(np.zeros((24, 3), np.float32))
    np.testing.assert_array_equal(u, again)


def test_rounding_is_no_direction() -> None:
    # The second column is twice the first but for float32's rounding.
    b = np.random.default_rng(1).standard_normal((50, 1)).astype(np.float32)
    u, _ = directions(np.hstack([b, b * np.float32(2.0000001)]))
    nudged, _ = directions(np.hstack([b, b * np.float32(1.9999999)]))
    np.testing.assert_allclose(u, nudged, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 5), (1, 1)])
def test_more_columns_than_outputs_have_none_left(shape: tuple[int, int]) -> None:
    b = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    u, c = directions(b)
    np.testing.assert_allclose(u @ c, b, atol=1e-5)
    assert not u[:, shape[0] :].any()
