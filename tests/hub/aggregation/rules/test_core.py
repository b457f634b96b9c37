"""By hand and by definition; what every rule promises stands in `test_rules.py`."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import Factors, FactorsUpdate
from hub.aggregation.rules.core import RULE
from hub.aggregation.rules.stack_svd import RULE as STACK
from tests.hub.aggregation.rules.cases import (
    factors,
    product,
    random_layer,
    random_update,
    relative,
)

CURRENT = factors([[1, 0, 0], [0, 1, 0]], [[1, 0], [0, 2]])


def test_both_factors_are_trained_once_and_then_cores() -> None:
    assert [RULE.trains(round_) for round_ in (1, 2, 3)] == ["both", "core", "core"]
    assert [RULE.basis(round_) for round_ in (1, 2, 3)] == ["turned", "same", "same"]


def test_what_cores_changed_of_b_is_averaged_and_a_stays() -> None:
    # A core's change arrives as one of B: (4, 0)ᵀ at weight 1, diag(0, 4) at 3.
    low = FactorsUpdate(1, factors([[0, 0, 0]], [[4], [0]]))
    high = FactorsUpdate(3, factors([[0, 0, 0]] * 2, [[0, 0], [0, 4]]))
    combined = RULE.combine(CURRENT, [low, high])
    np.testing.assert_array_equal(combined.a, CURRENT.a)
    np.testing.assert_allclose(combined.b, [[2, 0], [0, 5]], rtol=1e-6)


def test_a_late_update_of_both_factors_counts_along_the_directions_that_are_fixed() -> None:
    # It started from (1 0)ᵀ (0 1 1) and came to (3 0)ᵀ (0 1 1): of (2 0)ᵀ (0 1 1) the part along
    # the rows (1 0 0) and (0 1 0) is (2 0)ᵀ (0 1 0).
    older = factors([[0, 1, 1], [1, 0, 0]], [[1, 0], [0, 1]])
    late = FactorsUpdate(1, factors([[0, 0, 1]], [[2], [0]]), start=older)
    # With A trained, too: 3 · (0 1 2) − (0 1 1) = (0 2 5); along the rows again (0 2 0).
    combined = RULE.combine(CURRENT, [late])
    np.testing.assert_array_equal(combined.a, CURRENT.a)
    np.testing.assert_allclose(combined.b, [[1, 2], [0, 2]], rtol=1e-6)


def test_a_round_in_which_a_is_trained_is_stacked_and_truncated() -> None:
    rng = np.random.default_rng(5)
    current = random_layer(rng, 4, 12, 10)
    updates = [random_update(rng, rank, 12, 10) for rank in (4, 2)]
    cores = replace(updates[1], delta=Factors(0 * updates[1].delta.a, updates[1].delta.b))
    mixed = [updates[0], cores]
    one, other = RULE.combine(current, mixed), STACK.combine(current, mixed)
    assert relative(product(one), product(other)) <= 1e-6


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(8, 30), st.integers(8, 30)),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=6),
)
def test_the_mean_of_cores_is_exact_at_any_mix_of_ranks(
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
    assert relative(product(RULE.combine(current, updates)), mean) <= 1e-6
