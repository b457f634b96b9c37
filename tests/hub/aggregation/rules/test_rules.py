"""The registry, and what every registered rule must do (`rules/__init__.py`)."""

import numpy as np
import pytest

from hub.aggregation.contract import (
    AggregationError,
    FactorRule,
    Factors,
    FactorsUpdate,
    ProductRule,
    VectorUpdate,
)
from hub.aggregation.rules import factor_rule, factor_rules, product_rule, product_rules


def test_a_file_in_the_folder_is_a_rule() -> None:
    assert "stack_svd" in product_rules()
    assert "mean" in factor_rules()


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AggregationError, match="stack_svd"):
        product_rule("mean")
    with pytest.raises(AggregationError, match="mean"):
        factor_rule("median of medians")


@pytest.mark.parametrize("rule", product_rules().values(), ids=lambda rule: rule.name)
def test_a_product_rule_keeps_shapes_and_types(rule: ProductRule) -> None:
    current = Factors(np.eye(2, 5, dtype=np.float32), np.ones((4, 2), np.float32))
    update = Factors(np.ones((1, 5), np.float32), np.ones((4, 1), np.float32))
    combined = rule.combine(current, iter([FactorsUpdate(1, update), FactorsUpdate(2, update)]))
    assert (combined.a.shape, combined.b.shape) == ((2, 5), (4, 2))
    assert {combined.a.dtype.name, combined.b.dtype.name} == {"float32"}
    assert combined.a.flags.c_contiguous
    assert combined.b.flags.c_contiguous


@pytest.mark.parametrize("rule", factor_rules().values(), ids=lambda rule: rule.name)
def test_a_factor_rule_follows_devices_that_agree(rule: FactorRule) -> None:
    moved = np.array([[1, -2, 3]], np.float32)
    start = np.array([[1, 1, 1]], np.float32)
    combined = rule.combine(start, iter([VectorUpdate(w, moved) for w in (1.0, 2.0, 3.0)]))
    np.testing.assert_allclose(combined, [[2, -1, 4]], rtol=1e-6)
    assert combined.dtype == np.float32
