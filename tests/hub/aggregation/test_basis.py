"""Completing orthonormal rows, by hand and in general."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.basis import complete, seed_of

E = np.eye(3)


def test_a_candidate_is_taken_in_order_without_what_is_there_already() -> None:
    # (0.6, 0.8, 0) without its part along e1 is e2; e3 comes next.
    candidates = np.array([[0.6, 0.8, 0], [0, 0, 1]])
    np.testing.assert_allclose(complete(E[:1], 3, candidates, 0), E, atol=1e-12)


def test_a_candidate_that_is_there_already_is_passed_over() -> None:
    candidates = np.array([[1, 0, 0], [0.999, 0.0447, 0], [0, 0, 1]])
    np.testing.assert_allclose(complete(E[:1], 2, candidates, 0), E[[0, 2]], atol=1e-12)


def test_beyond_the_width_rows_are_only_of_unit_length() -> None:
    rows = complete(np.empty((0, 2)), 5, np.empty((0, 2)), 1)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    np.testing.assert_allclose(rows[:2] @ rows[:2].T, np.eye(2), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_seeded_rows_are_orthonormal_as_far_as_they_can_be(
    width: int, count: int, seed: int
) -> None:
    rows = complete(np.empty((0, width)), count, np.empty((0, width)), seed)
    free = min(width, count)
    np.testing.assert_allclose(rows[:free] @ rows[:free].T, np.eye(free), atol=1e-10)
    np.testing.assert_array_equal(
        rows, complete(np.empty((0, width)), count, np.empty((0, width)), seed)
    )


def test_a_seed_depends_on_job_and_name() -> None:
    assert len({seed_of(7, "a"), seed_of(7, "b"), seed_of(8, "a")}) == 3
    # sha256("7:a") begins with these eight bytes, so every machine draws the same.
    assert seed_of(7, "a") == int.from_bytes(bytes.fromhex("82d9d62baa6a7870"), "little")
