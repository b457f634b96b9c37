"""Hand-worked cases on diagonal layers, and what must hold for any mix of ranks."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hub.aggregation.contract import AggregationError, Factors, FactorsUpdate
from hub.aggregation.rules.stack_svd import RULE

E = np.eye(3, dtype=np.float32)
#: diag(4, 2, 0) as components e1 e1ᵀ · 4 and e2 e2ᵀ · 2.
DIAGONAL = Factors(a=E[:2], b=E[:, :2] * np.array([4, 2], dtype=np.float32))


def product(factors: Factors) -> NDArray[np.float64]:
    return factors.b.astype(np.float64) @ factors.a.astype(np.float64)


def delta(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Factors:
    """Differences of A (r, in) and of B, the latter given column by column."""
    return Factors(np.array(a, np.float32), np.array(b, np.float32).T.copy())


def test_a_small_device_keeps_the_components_that_it_did_not_train() -> None:
    # x, rank 1: diag(6, 2, 0); y, rank 2: diag(4, 4, 0); (x + 3 y) / 4 = diag(4.5, 3.5, 0).
    x = FactorsUpdate(1, delta([[0, 0, 0]], [[2, 0, 0]]))
    y = FactorsUpdate(3, delta([[0] * 3] * 2, [[0, 0, 0], [0, 2, 0]]))
    combined = RULE.combine(DIAGONAL, [x, y])
    np.testing.assert_allclose(combined.a, E[:2], atol=1e-6)
    np.testing.assert_allclose(combined.b, E[:, :2] * [4.5, 3.5], atol=1e-6)


def test_components_come_in_order_of_their_singular_values() -> None:
    # The second component grows from 2 to 7 and so becomes the first.
    grown = FactorsUpdate(1, delta([[0] * 3] * 2, [[0, 0, 0], [0, 5, 0]]))
    combined = RULE.combine(DIAGONAL, [grown])
    np.testing.assert_allclose(combined.a, E[[1, 0]], atol=1e-6)
    np.testing.assert_allclose(combined.b, [[0, 4], [7, 0], [0, 0]], atol=1e-6)


def test_what_exceeds_the_rank_is_dropped() -> None:
    # From e1 · 0: x goes to diag(3, 0, 0), y to diag(0, 1, 0); the mean is diag(1.5, 0.5, 0).
    zero = Factors(E[:1], np.zeros((3, 1), np.float32))
    x = FactorsUpdate(1, delta([[0, 0, 0]], [[3, 0, 0]]))
    y = FactorsUpdate(1, delta([[-1, 1, 0]], [[0, 1, 0]]))
    combined = RULE.combine(zero, [x, y])
    np.testing.assert_allclose(product(combined), np.diag([1.5, 0, 0]), atol=1e-6)


def test_a_late_update_adds_its_difference_to_the_current_adapter() -> None:
    # diag(4, 2, 0) became diag(6, 2, 0) there: +2. Here: mean of diag(12, 1, 0), diag(10, 1, 0).
    current = Factors(E[:2], E[:, :2] * np.array([10, 1], np.float32))
    late = FactorsUpdate(1, delta([[0, 0, 0]], [[2, 0, 0]]), start=DIAGONAL)
    idle = FactorsUpdate(1, delta([[0] * 3] * 2, [[0] * 3] * 2))
    np.testing.assert_allclose(
        product(RULE.combine(current, [late])), np.diag([12, 1, 0]), atol=1e-5
    )
    np.testing.assert_allclose(
        product(RULE.combine(current, [late, idle])), np.diag([11, 1, 0]), atol=1e-5
    )


def test_a_late_update_of_both_factors_adds_its_whole_product() -> None:
    # Old start: 4 e1 e1ᵀ. It went to (4 e1 + 1 e2)(e1 + 2 e3)ᵀ, which differs by
    # 8 e1 e3ᵀ + e2 e1ᵀ + 2 e2 e3ᵀ.
    late = FactorsUpdate(5, delta([[0, 0, 2]], [[0, 1, 0]]), start=DIAGONAL)
    current = Factors(np.eye(3, dtype=np.float32), np.zeros((3, 3), np.float32))
    combined = RULE.combine(current, [late])
    np.testing.assert_allclose(product(combined), [[0, 0, 8], [1, 0, 2], [0, 0, 0]], atol=1e-5)


def test_a_component_is_signed_by_the_largest_entry_of_its_row() -> None:
    # −3 e1 (0.6, −0.8, 0): the row turns to (−0.6, 0.8, 0) and the column to +3.
    start = Factors(np.array([[0.6, -0.8, 0]], np.float32), np.zeros((3, 1), np.float32))
    combined = RULE.combine(start, [FactorsUpdate(1, delta([[0, 0, 0]], [[-3, 0, 0]]))])
    np.testing.assert_allclose(combined.a, [[-0.6, 0.8, 0]], atol=1e-6)
    np.testing.assert_allclose(combined.b, [[3], [0], [0]], atol=1e-6)


def test_missing_components_keep_old_directions_with_zero_columns() -> None:
    # Only e2 is left of G = 0 + update; e1 of the old A still points out of it and comes back.
    zero = Factors(E[:2], np.zeros((3, 2), np.float32))
    update = FactorsUpdate(1, delta([[0] * 3] * 2, [[0, 0, 0], [0, 0, 5]]))
    combined = RULE.combine(zero, [update])
    np.testing.assert_allclose(combined.a, E[[1, 0]], atol=1e-6)
    np.testing.assert_allclose(combined.b, [[0, 0], [0, 0], [5, 0]], atol=1e-6)


def test_more_columns_than_the_layer_has_rows_give_the_same_mean() -> None:
    # Five devices of rank 2 on a 3 × 3 layer: diag(4 + k, 2, 0), k = 0..4; mean diag(6, 2, 0).
    updates = [FactorsUpdate(2, delta([[0] * 3] * 2, [[k, 0, 0], [0] * 3])) for k in range(5)]
    np.testing.assert_allclose(
        product(RULE.combine(DIAGONAL, updates)), np.diag([6, 2, 0]), atol=1e-6
    )


def test_large_updates_that_cancel_leave_the_small_rest() -> None:
    # 4 + 1e8 is 1e8 in float32; in float64 the mean of 4 + 1e8 and 4 − 1e8 is 4.
    x = FactorsUpdate(1, delta([[0, 0, 0]], [[1e8, 0, 0]]))
    y = FactorsUpdate(1, delta([[0, 0, 0]], [[-1e8, 0, 0]]))
    np.testing.assert_allclose(
        product(RULE.combine(DIAGONAL, [x, y])), np.diag([4, 2, 0]), atol=1e-5
    )


def test_a_rank_beyond_the_layer_leaves_spare_unit_rows() -> None:
    start = Factors(np.eye(2, dtype=np.float32)[[0, 1, 0]], np.zeros((2, 3), np.float32))
    update = FactorsUpdate(1, delta([[0, 0]] * 3, [[3, 0], [0, 0], [0, 0]]))
    combined = RULE.combine(start, [update])
    assert combined.a.shape == (3, 2)
    np.testing.assert_allclose(np.linalg.norm(combined.a, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(product(combined), [[3, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(AggregationError, match="weighs"):
        RULE.combine(DIAGONAL, [FactorsUpdate(weight, delta([[0] * 3], [[0] * 3]))])


def test_no_updates_are_refused() -> None:
    with pytest.raises(AggregationError, match="no updates"):
        RULE.combine(DIAGONAL, [])


@pytest.mark.parametrize(
    "wrong",
    [
        FactorsUpdate(1, delta([[0, 0]], [[0, 0, 0]])),
        FactorsUpdate(1, delta([[0] * 3], [[0, 0]])),
        FactorsUpdate(1, delta([[0] * 3] * 3, [[0] * 3] * 3)),
        FactorsUpdate(1, delta([[0] * 3], [[0] * 3]), start=Factors(E[:2, :2], E[:, :2])),
    ],
    ids=["width of A", "height of B", "rank above the start's", "start of another layer"],
)
def test_an_update_of_another_layer_is_refused(wrong: FactorsUpdate) -> None:
    with pytest.raises(AggregationError):
        RULE.combine(DIAGONAL, [wrong])


# --- what must hold in general -------------------------------------------------------------------


def random_factors(rng: np.random.Generator, rank: int, out: int, width: int) -> Factors:
    """A global adapter in its published form: orthonormal rows, falling columns."""
    q, _ = np.linalg.qr(rng.standard_normal((width, rank)))
    b = rng.standard_normal((out, rank)) * (2.0 ** -np.arange(rank))
    return Factors(q.T.astype(np.float32), b.astype(np.float32))


def random_update(rng: np.random.Generator, rank: int, out: int, width: int) -> FactorsUpdate:
    a = 0.3 * rng.standard_normal((rank, width))
    b = 0.3 * rng.standard_normal((out, rank))
    return FactorsUpdate(
        float(rng.uniform(0.1, 5)), Factors(a.astype(np.float32), b.astype(np.float32))
    )


def mean_by_definition(current: Factors, updates: list[FactorsUpdate]) -> NDArray[np.float64]:
    """Σ wₖ (Bₖ Aₖ + restₖ) written out with whole matrices, as the design states it."""
    whole = product(current)
    total = np.zeros_like(whole)
    for update in updates:
        r = update.delta.rank
        start = current if update.start is None else update.start
        a = start.a[:r].astype(np.float64) + update.delta.a
        b = start.b[:, :r].astype(np.float64) + update.delta.b
        leading = start.b[:, :r].astype(np.float64) @ start.a[:r].astype(np.float64)
        total += update.weight * (whole + b @ a - leading)
    mean: NDArray[np.float64] = total / sum(update.weight for update in updates)
    return mean


def relative(got: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


seeds = st.integers(0, 2**32 - 1)
dims = st.tuples(st.integers(8, 40), st.integers(8, 40))
ranks = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(seeds, dims, ranks, st.booleans())
def test_it_is_the_best_approximation_of_the_mean(
    seed: int, shape: tuple[int, int], ranks: list[int], with_late: bool
) -> None:
    rng = np.random.default_rng(seed)
    current = random_factors(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape) for rank in ranks]
    if with_late:
        updates[0] = replace(updates[0], start=random_factors(rng, 8, *shape))
    u, s, vt = np.linalg.svd(mean_by_definition(current, updates), full_matrices=False)
    combined = RULE.combine(current, updates)
    assert relative(product(combined), (u[:, :8] * s[:8]) @ vt[:8]) <= 1e-5
    np.testing.assert_allclose(combined.a @ combined.a.T, np.eye(8), atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(combined.b, axis=0)[: len(s)], s[:8], rtol=1e-4, atol=1e-5
    )


@settings(deadline=None, max_examples=30)
@given(seeds, dims, ranks)
def test_the_order_of_devices_changes_nothing(
    seed: int, shape: tuple[int, int], ranks: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    current = random_factors(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape) for rank in ranks]
    shuffled = [updates[index] for index in rng.permutation(len(updates))]
    one, other = RULE.combine(current, updates), RULE.combine(current, shuffled)
    assert relative(product(one), product(other)) <= 1e-5


@settings(deadline=None, max_examples=30)
@given(seeds, dims, ranks)
def test_mixed_ranks_that_learnt_nothing_leave_the_adapter_unchanged(
    seed: int, shape: tuple[int, int], ranks: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    current = random_factors(rng, 8, *shape)
    none = [
        FactorsUpdate(
            float(rng.uniform(0.1, 5)),
            Factors(np.zeros((r, shape[1]), np.float32), np.zeros((shape[0], r), np.float32)),
        )
        for r in ranks
    ]
    assert relative(product(RULE.combine(current, none)), product(current)) <= 1e-6


@settings(deadline=None, max_examples=30)
@given(seeds, dims)
def test_equal_ranks_give_the_exact_mean_when_it_fits(seed: int, shape: tuple[int, int]) -> None:
    # Two devices of rank 4 and R = 8 with an empty tail: nothing is left to drop.
    rng = np.random.default_rng(seed)
    current = random_factors(rng, 8, *shape)
    current.b[:, 4:] = 0
    updates = [random_update(rng, 4, *shape) for _ in range(2)]
    combined = RULE.combine(current, updates)
    assert relative(product(combined), mean_by_definition(current, updates)) <= 1e-6


@settings(deadline=None, max_examples=30)
@given(seeds, dims)
def test_one_device_of_full_rank_gives_its_own_product(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    current = random_factors(rng, 8, *shape)
    update = random_update(rng, 8, *shape)
    own = Factors(current.a + update.delta.a, current.b + update.delta.b)
    assert relative(product(RULE.combine(current, [update])), product(own)) <= 1e-5


def test_the_inputs_are_not_changed() -> None:
    rng = np.random.default_rng(3)
    current, update = random_factors(rng, 8, 12, 10), random_update(rng, 4, 12, 10)
    before = [current.a.copy(), current.b.copy(), update.delta.a.copy(), update.delta.b.copy()]
    RULE.combine(current, [update])
    after = [current.a, current.b, update.delta.a, update.delta.b]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
