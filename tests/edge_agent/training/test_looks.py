"""The step along a direction, on parabolas whose lowest points are known."""

import math

import numpy as np
import pytest

from edge_agent.training.looks import GROWTH, LIFT, TRUST, Looks
from wire.forward_only import rounded


def halves(first, second):
    """Return the losses of two halves, each a function of the distance, as `judge` takes them."""

    def at(distance):
        return np.array([first(distance), second(distance)])

    return at


def judge(looks, at, core=0):
    far = looks.distance(core)
    return looks.judge(core, at(0.0), at(far), at(-far))


def test_halves_that_agree_are_followed_to_the_lowest_point():
    at = halves(*[lambda x: 2.0 - 0.5 * x + 20.0 * x**2] * 2)
    step = judge(Looks(0.01), at)
    assert step.distance == rounded(0.0125)  # -g / h of g = -0.5, h = 40
    np.testing.assert_allclose(step.level, at(step.distance), atol=1e-9)


def test_halves_that_contradict_one_another_are_not():
    # Slopes of 0.5 and -0.4: their mean is 0.05, the variance of that 0.45² = 0.2025.
    at = halves(lambda x: 2 + 0.5 * x + 20 * x**2, lambda x: 2 - 0.4 * x + 20 * x**2)
    assert judge(Looks(0.01), at).distance == 0.0


def test_a_contradiction_shortens_the_step():
    # Slopes of -0.6 and -0.4: a mean of -0.5, its variance 0.01; 1 - 0.01 / 0.25 is left.
    at = halves(lambda x: 2 - 0.6 * x + 20 * x**2, lambda x: 2 - 0.4 * x + 20 * x**2)
    assert judge(Looks(0.01), at).distance == rounded(0.0125 * 0.96)


def test_what_other_looks_found_counts_too():
    looks = Looks(0.01)
    judge(looks, halves(lambda x: 2 + 0.5 * x + 20 * x**2, lambda x: 2 - 0.4 * x + 20 * x**2))
    # Mean of 0.2025 / 40 and 0 is 0.00253; 0.25 / 40 is 0.00625 here.
    at = halves(*[lambda x: 2.0 - 0.5 * x + 20.0 * x**2] * 2)
    assert judge(looks, at, core=1).distance == rounded(0.0125 * (1 - 0.2025 / 2 / 0.25))


def test_a_look_aims_at_a_lift():
    looks = Looks(0.01)
    judge(looks, halves(*[lambda x: 2.0 + 20.0 * x**2] * 2), core=4)
    assert looks.distance(4) == pytest.approx(math.sqrt(2 * LIFT / 40))
    looks = Looks(0.01)
    judge(looks, halves(*[lambda x: 2.0 + 2000.0 * x**2] * 2), core=5)
    assert looks.distance(5) == pytest.approx(0.01 / GROWTH)


def test_where_it_bends_down_the_step_is_bounded():
    looks = Looks(0.01)
    step = judge(looks, halves(*[lambda x: 2.0 - 0.5 * x - 20.0 * x**2] * 2))
    assert step.distance == rounded(TRUST * 0.01)
    assert looks.distance(0) == pytest.approx(0.01 * GROWTH)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_not_gone_to(value):
    looks = Looks(0.01)
    step = looks.judge(0, np.full(2, 2.0), np.full(2, value), np.full(2, 2.0))
    assert (step.distance, step.level.tolist()) == (0.0, [2.0, 2.0])
    assert looks.distance(0) == pytest.approx(0.01 / GROWTH)


def test_a_flat_direction_moves_nothing():
    assert judge(Looks(0.01), halves(*[lambda _: 2.0] * 2)).distance == 0.0


def test_its_state_can_be_taken_up():
    looks, at = Looks(0.01), halves(lambda x: 2 - 0.6 * x + 20 * x**2, lambda x: 2 - 0.4 * x)
    judge(looks, at)
    again = Looks(0.01)
    again.restore(looks.state())
    assert judge(again, at).distance == judge(looks, at).distance
