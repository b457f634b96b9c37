"""How long a round lasts, and how many steps fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.scheduling.deadline import auto_deadline_s, fitting_steps


def test_the_deadline_is_twice_the_median_devices_time() -> None:
    assert auto_deadline_s([20.0, 40.0, 500.0], steps=10) == 80.0


def test_one_absurd_device_does_not_stretch_the_round() -> None:
    assert auto_deadline_s([20.0, 40.0, 1e300], steps=10) == 80.0


def test_the_deadline_is_never_below_half_a_minute_nor_above_a_day() -> None:
    assert auto_deadline_s([1.0], steps=10) == 30.0
    assert auto_deadline_s([1e9], steps=10) == 86_400.0


def test_before_anything_was_timed_the_deadline_is_generous() -> None:
    assert auto_deadline_s([], steps=20, untimed=3) == 720.0  # 120 + 20 * 30


def test_an_untimed_member_doubles_the_deadline() -> None:
    assert auto_deadline_s([20.0, 40.0, 60.0], steps=10, untimed=1) == 160.0


def test_fixed_steps_give_the_slowest_member_room_within_bounds() -> None:
    assert auto_deadline_s([20.0, 20.0, 100.0], steps=10, fixed=True) == 150.0
    assert auto_deadline_s([20.0, 20.0, 1000.0], steps=10, fixed=True) == 160.0


@pytest.mark.parametrize(
    ("overhead_s", "seconds_per_step", "expected"),
    [
        (0.0, 1.0, 20),  # 90 s are free: all 20
        (60.0, 2.0, 15),  # 30 s / 2 s
        (60.0, 2.1, 14),  # 14.3
        (60.0, 30.0, 1),  # exactly one
        (60.0, 30.1, 0),  # not even one
        (95.0, 0.001, 0),  # loading alone takes longer
        (60.0, 0.0, 20),  # a device that claims to take no time
    ],
)
def test_the_steps_that_fit_into_nine_tenths(
    overhead_s: float, seconds_per_step: float, expected: int
) -> None:
    assert (
        fitting_steps(100.0, steps=20, seconds_per_step=seconds_per_step, overhead_s=overhead_s)
        == expected
    )


@given(
    st.floats(1, 1e5), st.integers(1, 10_000), st.floats(0, 1e300), st.floats(0, 1e300)
)  # whatever a device claims
def test_fitting_steps_end_in_time(
    deadline_s: float, steps: int, seconds_per_step: float, overhead_s: float
) -> None:
    fit = fitting_steps(
        deadline_s, steps=steps, seconds_per_step=seconds_per_step, overhead_s=overhead_s
    )
    assert 0 <= fit <= steps
    if fit:
        assert overhead_s + fit * seconds_per_step <= deadline_s
