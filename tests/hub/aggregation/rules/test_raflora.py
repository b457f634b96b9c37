"""Partitions by hand and by definition; see also `test_rules.py`."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.raflora import RULE
from tests.hub.aggregation.rules.cases import (
    factors,
    moved,
    product,
    random_layer,
    random_update,
    relative,
)

CURRENT = factors([[1, 0], [0, 1]], [[2, 0], [0, 8]])


def test_a_component_is_averaged_over_those_who_hold_it() -> None:
    # Component 1: (1 · 4 + 3 · 2) / 4; component 2 is the second device's alone.
    low = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]))
    high = FactorsUpdate(3, factors([[0, 0]] * 2, [[0, 0], [0, 1]]))
    np.testing.assert_allclose(
        product(RULE.combine(CURRENT, [low, high])), [[2.5, 0], [0, 9]], atol=1e-6
    )


def test_what_nobody_holds_stays() -> None:
    low = FactorsUpdate(1, factors([[0, 0]], [[1], [0]]))
    np.testing.assert_allclose(product(RULE.combine(CURRENT, [low])), [[3, 0], [0, 8]], atol=1e-6)


def test_a_late_update_adds_what_it_changed() -> None:
    older = factors([[1, 0], [0, 1]], [[7, 0], [0, 7]])
    late = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]), start=older)
    np.testing.assert_allclose(product(RULE.combine(CURRENT, [late])), [[4, 0], [0, 8]], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(8, 30), st.integers(8, 30)),
    st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=6),
)
def test_it_is_the_sum_over_partitions(seed: int, shape: tuple[int, int], ranks: list[int]) -> None:
    """Partition by partition with whole matrices, as the paper states it."""
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape) for rank in ranks]
    whole = np.zeros(shape)
    for low, high in ((0, 1), (1, 2), (2, 4), (4, 8)):
        holders = [update for update in updates if update.delta.rank >= high]
        models = [(update.weight, moved(current, update)) for update in holders]
        models = models or [(1.0, current)]
        total = sum(weight for weight, _ in models)
        for weight, model in models:
            part = model.b[:, low:high].astype(np.float64) @ model.a[low:high].astype(np.float64)
            whole += weight / total * part
    u, s, vt = np.linalg.svd(whole, full_matrices=False)
    combined = RULE.combine(current, updates)
    assert relative(product(combined), (u[:, :8] * s[:8]) @ vt[:8]) <= 1e-5
