"""Averages worked by hand; what every rule promises stands in `test_rules.py`."""

import numpy as np

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.hetlora import RULE
from tests.hub.aggregation.rules.cases import factors

CURRENT = factors([[1, 0], [0, 1]], [[0, 0], [0, 0]])


def test_the_norm_of_the_product_weighs() -> None:
    # ‖b a‖: 1 · ‖(3, 4)‖ = 5 for the first, ‖diag(3, 6)‖ = √45 for the second.
    one = FactorsUpdate(1, factors([[0, 0]], [[3], [4]]))
    two = FactorsUpdate(1, factors([[0, 0], [0, 0]], [[3, 0], [0, 6]]))
    combined = RULE.combine(CURRENT, [one, two])
    p = 5 / (5 + 45**0.5)
    np.testing.assert_allclose(combined.a, [[1, 0], [0, 1 - p]], rtol=1e-6)
    np.testing.assert_allclose(combined.b, [[3, 0], [4 * p, 6 * (1 - p)]], rtol=1e-6)


def test_the_strategys_weights_multiply() -> None:
    # 2 · 3 against 1 · 6: equal shares.
    one = FactorsUpdate(2, factors([[0, 0]], [[3], [0]]))
    two = FactorsUpdate(1, factors([[0, 0]], [[0], [6]]))
    np.testing.assert_allclose(RULE.combine(CURRENT, [one, two]).b[:, 0], [1.5, 3])


def test_products_that_are_all_zero_weigh_as_the_strategy_says() -> None:
    one = FactorsUpdate(1, factors([[1, 0]], [[0], [0]]))
    two = FactorsUpdate(3, factors([[0, 0]], [[0], [0]]))
    combined = RULE.combine(CURRENT, [one, two])
    np.testing.assert_allclose(combined.a, [[1.25, 0], [0, 0]])
