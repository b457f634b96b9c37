"""By hand and by definition; what every rule promises stands in `test_rules.py`."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.fedsvd import RULE
from tests.hub.aggregation.rules.cases import (
    factors,
    product,
    random_layer,
    random_update,
    relative,
)

CURRENT = factors([[1, 0], [0, 1]], [[1, 0], [0, 2]])


def test_the_mean_is_factorised_by_weight() -> None:
    # B: diag(1 + 8/4, 2 + 12/4) = diag(3, 5), the larger direction first.
    low = FactorsUpdate(1, factors([[0, 0]], [[8], [0]]))
    high = FactorsUpdate(3, factors([[0, 0]] * 2, [[0, 0], [0, 4]]))
    combined = RULE.combine(CURRENT, [low, high])
    np.testing.assert_allclose(combined.a, [[0, 1], [1, 0]], atol=1e-7)
    np.testing.assert_allclose(combined.b, [[0, 3], [5, 0]], atol=1e-6)


def test_a_late_update_adds_its_difference_along_its_own_directions() -> None:
    # It started from A″ = [[0, 1], ...] and moved B″ by (2, 0)ᵀ there.
    older = factors([[0, 1], [1, 0]], [[5, 5], [5, 5]])
    late = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]), start=older)
    np.testing.assert_allclose(product(RULE.combine(CURRENT, [late])), [[1, 2], [0, 2]], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(8, 30), st.integers(8, 30)),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=6),
)
def test_nothing_is_lost_and_a_is_orthonormal(
    seed: int, shape: tuple[int, int], ranks: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape, "b") for rank in ranks]
    total = sum(update.weight for update in updates)
    mean = product(current)
    for update in updates:
        leading = current.a[: update.delta.rank].astype(np.float64)
        mean = mean + update.weight / total * (update.delta.b.astype(np.float64) @ leading)
    combined = RULE.combine(current, updates)
    assert relative(product(combined), mean) <= 1e-5
    np.testing.assert_allclose(combined.a @ combined.a.T, np.eye(8), atol=1e-5)
