"""By hand; what every rule promises stands in `test_rules.py`."""

import numpy as np

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.alternate import RULE
from tests.hub.aggregation.rules.cases import factors, product

CURRENT = factors([[1, 0], [0, 1]], [[1, 0], [0, 2]])


def test_b_comes_first_and_then_they_take_turns() -> None:
    assert [RULE.trains(round_) for round_ in (1, 2, 3, 4)] == ["b", "a", "b", "a"]


def test_a_round_of_a_gives_the_mean_of_products() -> None:
    # A of (1, 4) and (1, 8) in row 1 at weights 1 and 3: (1, 7); row 2 is one device's alone.
    one = FactorsUpdate(1, factors([[0, 4]], [[0], [0]]))
    two = FactorsUpdate(3, factors([[0, 8], [4, 0]], [[0, 0], [0, 0]]))
    combined = RULE.combine(CURRENT, [one, two])
    np.testing.assert_allclose(combined.a, [[1, 7], [3, 1]])
    np.testing.assert_array_equal(combined.b, CURRENT.b)
    # (diag(1, 2) + [[0, 4], [0, 0]] + 3 (diag(1, 2) + [[0, 8], [8, 0]])) / 4
    np.testing.assert_allclose(product(combined), [[1, 7], [6, 2]])


def test_a_late_round_of_the_other_factor_moves_both() -> None:
    a = FactorsUpdate(1, factors([[0, 2]], [[0], [0]]))
    b = FactorsUpdate(1, factors([[0, 0]], [[2], [0]]), start=CURRENT)
    combined = RULE.combine(CURRENT, [a, b])
    np.testing.assert_allclose(combined.a, [[1, 1], [0, 1]])
    np.testing.assert_allclose(combined.b, [[2, 0], [0, 2]])
