"""Means of products by hand and by definition; see also `test_rules.py`."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.flexlora import RULE
from tests.hub.aggregation.rules.cases import (
    factors,
    moved,
    product,
    random_layer,
    random_update,
    relative,
)

CURRENT = factors([[1, 0], [0, 1]], [[2, 0], [0, 8]])


def test_products_are_averaged_and_sorted() -> None:
    # Rank 1 holds diag(2 + 2, 0), rank 2 diag(2, 8), at 1 : 3: diag(2.5, 6), the larger one first.
    low = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]))
    high = FactorsUpdate(3, factors([[0, 0]] * 2, [[0, 0]] * 2))
    combined = RULE.combine(CURRENT, [low, high])
    np.testing.assert_allclose(combined.a, [[0, 1], [1, 0]], atol=1e-7)
    np.testing.assert_allclose(combined.b, [[0, 2.5], [6, 0]], atol=1e-6)


def test_what_stands_behind_a_lower_rank_fades() -> None:
    # A fleet of rank 1 alone knows nothing of component 2.
    low = FactorsUpdate(1, factors([[0, 0]], [[0], [0]]))
    np.testing.assert_allclose(product(RULE.combine(CURRENT, [low])), [[2, 0], [0, 0]], atol=1e-7)


def test_a_late_update_adds_what_it_changed() -> None:
    # From an older (7 0) to (9 0): two more than now.
    older = factors([[1, 0], [0, 1]], [[7, 0], [0, 7]])
    late = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]), start=older)
    np.testing.assert_allclose(product(RULE.combine(CURRENT, [late])), [[4, 0], [0, 0]], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(8, 30), st.integers(8, 30)),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=6),
)
def test_it_is_the_best_approximation_of_the_mean(
    seed: int, shape: tuple[int, int], ranks: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape) for rank in ranks]
    total = sum(update.weight for update in updates)
    mean = sum(update.weight / total * product(moved(current, update)) for update in updates)
    u, s, vt = np.linalg.svd(mean, full_matrices=False)
    combined = RULE.combine(current, updates)
    assert relative(product(combined), (u[:, :8] * s[:8]) @ vt[:8]) <= 1e-5
    np.testing.assert_allclose(combined.a @ combined.a.T, np.eye(8), atol=1e-5)
    assert np.all(np.diff(np.linalg.norm(combined.b, axis=0)) <= 1e-5)
