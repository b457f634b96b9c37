"""By hand; what every rule promises stands in `test_rules.py`."""

from dataclasses import replace

import numpy as np

from hub.aggregation.contract import FactorsUpdate
from hub.aggregation.rules.freeze_a import RULE
from tests.hub.aggregation.rules.cases import factors

CURRENT = factors([[1, 2, 0], [0, 1, 1]], [[1, 10], [1, 10]])


def test_b_moves_by_the_mean_and_a_never() -> None:
    low = FactorsUpdate(1, factors([[0, 0, 0]], [[4], [8]]))
    high = FactorsUpdate(3, factors([[0, 0, 0]] * 2, [[0, 2], [4, 0]]))
    combined = RULE.combine(CURRENT, [low, high])
    np.testing.assert_array_equal(combined.a, CURRENT.a)
    # 1 + 4/4 and 1 + (8 + 12)/4; 10 + 6/4: who holds a component in place moved it by nothing.
    np.testing.assert_allclose(combined.b, [[2, 11.5], [6, 10]])


def test_a_late_update_adds_its_difference() -> None:
    late = FactorsUpdate(1, factors([[0, 0, 0]], [[2], [0]]))
    late = replace(late, start=factors(CURRENT.a, [[7, 7], [7, 7]]))
    np.testing.assert_allclose(RULE.combine(CURRENT, [late]).b, [[3, 10], [1, 10]])


def test_only_b_is_trained_in_every_round() -> None:
    assert {RULE.trains(round_) for round_ in range(1, 9)} == {"b"}
