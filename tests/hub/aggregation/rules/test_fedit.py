"""Averages worked by hand; what every rule promises stands in `test_rules.py`."""

from dataclasses import replace

import numpy as np

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.fedit import RULE
from tests.hub.aggregation.rules.cases import factors, product

# One input row and two outputs: b1 a1 + b2 a2.
CURRENT = factors([[1, 0], [0, 1]], [[0, 0], [0, 0]])


def test_factors_are_averaged_and_cross_terms_come_in() -> None:
    # Device x holds (1, 0) and (2, 0)ᵀ, y (0, 1) and (0, 2)ᵀ in the first component.
    x = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]))
    y = FactorsUpdate(1, factors([[-1, 1]], [[0], [2]]))
    combined = RULE.combine(CURRENT, [x, y])
    np.testing.assert_allclose(combined.a, [[0.5, 0.5], [0, 0]])
    np.testing.assert_allclose(combined.b, [[1, 0], [1, 0]])
    # The mean of the products is diag(1, 1); theirs is full of cross terms.
    np.testing.assert_allclose(product(combined), [[0.5, 0.5], [0.5, 0.5]])


def test_what_a_device_lacks_counts_as_zeros() -> None:
    # Ranks 1 and 2 at weights 1 and 3: component 2 keeps three quarters.
    low = FactorsUpdate(1, factors([[0, 0]], [[4], [0]]))
    high = FactorsUpdate(3, factors([[0, 0], [0, 0]], [[0, 0], [0, 8]]))
    combined = RULE.combine(CURRENT, [low, high])
    np.testing.assert_allclose(combined.a, [[1, 0], [0, 0.75]])
    np.testing.assert_allclose(combined.b, [[1, 0], [0, 6]])


def test_a_late_update_adds_its_difference_to_the_current_factors() -> None:
    late = FactorsUpdate(1, factors([[0, 0], [0, 0]], [[1, 0], [0, 0]]))
    other = factors([[5, 5], [5, 5]], [[9, 9], [9, 9]])
    one, same = (RULE.combine(CURRENT, [u]) for u in (late, replace(late, start=other)))
    np.testing.assert_array_equal(one.b, same.b)
    np.testing.assert_array_equal(one.a, same.a)
