import math

import pytest

from bench.spread import interval, spread_text


def test_the_interval_of_three_seeds_is_the_one_worked_by_hand() -> None:
    # Mean 2, standard deviation 1; t of 2 degrees of freedom is 4.303; 4.303 / √3 = 2.48434.
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.low == pytest.approx(2.0 - 2.48434, abs=1e-5)
    assert found.high == pytest.approx(2.0 + 2.48434, abs=1e-5)


def test_one_seed_tells_nothing_of_chance() -> None:
    assert interval([1.5]) == (1.5, -math.inf, math.inf)
    assert spread_text([1.5]) == "1.5000"


def test_a_spread_is_the_standard_deviation_of_a_sample() -> None:
    assert spread_text([1.0, 2.0, 3.0], digits=2) == "2.00 ± 1.00"
