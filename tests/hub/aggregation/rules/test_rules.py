"""The registry, and what every registered rule must do (`rules/__init__.py`)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import (
    AggregationError,
    FactorRule,
    Factors,
    FactorsUpdate,
    ProductRule,
    VectorUpdate,
)
from hub.aggregation.rules import factor_rule, factor_rules, orders, product_rule, product_rules
from tests.hub.aggregation.rules.cases import moved, product, random_layer, random_update, relative
from wire.trained_factors import RESTS, TRAINS


def test_a_file_in_the_folder_is_a_rule() -> None:
    assert "stack_svd" in product_rules()
    assert "mean" in factor_rules()


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AggregationError, match="stack_svd"):
        product_rule("mean")
    with pytest.raises(AggregationError, match="mean"):
        factor_rule("median of medians")


def test_rules_that_average_factors_put_components_in_no_order() -> None:
    names = {name for name, rule in product_rules().items() if not orders(rule)}
    assert names == {"alternate", "fedit", "freeze_a", "hetlora"}


@pytest.mark.parametrize("rule", product_rules().values(), ids=lambda rule: rule.name)
def test_a_product_rule_keeps_shapes_and_types(rule: ProductRule) -> None:
    current = Factors(np.eye(2, 5, dtype=np.float32), np.ones((4, 2), np.float32))
    update = Factors(np.ones((1, 5), np.float32), np.ones((4, 1), np.float32))
    combined = rule.combine(current, [FactorsUpdate(1, update), FactorsUpdate(2, update)])
    assert (combined.a.shape, combined.b.shape) == ((2, 5), (4, 2))
    assert {combined.a.dtype.name, combined.b.dtype.name} == {"float32"}
    assert combined.a.flags.c_contiguous
    assert combined.b.flags.c_contiguous


RULES = pytest.mark.parametrize("rule", product_rules().values(), ids=lambda rule: rule.name)
seeds = st.integers(0, 2**32 - 1)
dims = st.tuples(st.integers(8, 24), st.integers(8, 24))
mixes = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=5)
few = settings(deadline=None, max_examples=15)


@RULES
def test_a_product_rule_says_what_it_asks_of_devices(rule: ProductRule) -> None:
    assert rule.rest in RESTS
    assert {rule.trains(round_) for round_ in range(1, 5)} <= set(TRAINS)
    assert {rule.basis(round_) for round_ in range(1, 5)} <= {"same", "turned", "new"}
    # A core's update is a change of the whole adapter.
    assert not rule.cores or rule.rest == "frozen"


@RULES
@few
@given(seed=seeds, shape=dims, ranks=mixes, late=st.booleans())
def test_the_order_of_devices_changes_nothing(
    rule: ProductRule, seed: int, shape: tuple[int, int], ranks: list[int], late: bool
) -> None:
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape, rule.trains(1)) for rank in ranks]
    if late:
        updates[0] = replace(updates[0], start=random_layer(rng, 8, *shape))
    shuffled = [updates[index] for index in rng.permutation(len(updates))]
    one, other = rule.combine(current, updates), rule.combine(current, shuffled)
    assert relative(product(one), product(other)) <= 1e-5


@RULES
@few
@given(seed=seeds, shape=dims, ranks=mixes, scale=st.floats(1e-3, 1e3))
def test_only_the_ratios_of_weights_count(
    rule: ProductRule, seed: int, shape: tuple[int, int], ranks: list[int], scale: float
) -> None:
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    updates = [random_update(rng, rank, *shape, rule.trains(1)) for rank in ranks]
    scaled = [replace(update, weight=update.weight * scale) for update in updates]
    one, other = rule.combine(current, updates), rule.combine(current, scaled)
    assert relative(product(one), product(other)) <= 1e-5


@RULES
@few
@given(seed=seeds, shape=dims, count=st.integers(1, 4))
def test_devices_that_agree_give_their_own_model(
    rule: ProductRule, seed: int, shape: tuple[int, int], count: int
) -> None:
    rng = np.random.default_rng(seed)
    current = random_layer(rng, 8, *shape)
    update = random_update(rng, 8, *shape, rule.trains(1))
    updates = [replace(update, weight=weight) for weight in rng.uniform(0.1, 5, count).tolist()]
    assert (
        relative(product(rule.combine(current, updates)), product(moved(current, update))) <= 1e-5
    )


@RULES
def test_the_inputs_of_a_product_rule_are_not_changed(rule: ProductRule) -> None:
    rng = np.random.default_rng(3)
    current, update = random_layer(rng, 8, 12, 10), random_update(rng, 4, 12, 10)
    before = [current.a.copy(), current.b.copy(), update.delta.a.copy(), update.delta.b.copy()]
    rule.combine(current, [update])
    after = [current.a, current.b, update.delta.a, update.delta.b]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@RULES
def test_a_product_rule_refuses_what_it_cannot_combine(rule: ProductRule) -> None:
    rng = np.random.default_rng(3)
    current = random_layer(rng, 4, 12, 10)
    good = random_update(rng, 2, 12, 10)
    with pytest.raises(AggregationError, match="no updates"):
        rule.combine(current, [])
    with pytest.raises(AggregationError, match="weighs 0"):
        rule.combine(current, [good, replace(good, weight=0.0)])
    with pytest.raises(AggregationError, match="this layer takes"):
        rule.combine(current, [random_update(rng, 2, 12, 11)])
    with pytest.raises(AggregationError, match="has rank 5; its start has 4"):
        rule.combine(current, [random_update(rng, 5, 12, 10)])


@pytest.mark.parametrize("rule", factor_rules().values(), ids=lambda rule: rule.name)
def test_a_factor_rule_follows_devices_that_agree(rule: FactorRule) -> None:
    moved = np.array([[1, -2, 3]], np.float32)
    start = np.array([[1, 1, 1]], np.float32)
    combined = rule.combine(start, iter([VectorUpdate(w, moved) for w in (1.0, 2.0, 3.0)]))
    np.testing.assert_allclose(combined, [[2, -1, 4]], rtol=1e-6)
    assert combined.dtype == np.float32
