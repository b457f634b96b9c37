"""When a task rests, and when it goes on: the marks that the documentation names."""

import msgspec
import pytest

from edge_agent.pausing import BAD_READINGS, GOOD_READINGS, Comfort, Watch, find
from edge_agent.probe.conditions import Conditions

WELL = Conditions(
    temperature_c=50.0,
    temperature_limit_c=95.0,
    throttled=False,
    battery_percent=60.0,
    on_mains=False,
    memory_some_avg10=0.0,
    memory_full_avg10=0.0,
)
UNKNOWN = Conditions(None, None, None, None, None, None, None)
AMPLE, SHORT = 0.5, 0.05


def fares(**changes: object) -> Conditions:
    return msgspec.structs.replace(WELL, **changes)


def kind(
    now: Conditions, free: float | None = AMPLE, *, resting: bool = False, **asked: float
) -> str | None:
    trouble = find(now, free, Comfort(**asked), resting=resting)
    return trouble.kind if trouble else None


def test_a_device_that_fares_well_or_tells_nothing_works() -> None:
    assert kind(WELL) is None
    assert kind(UNKNOWN, None) is None
    assert kind(UNKNOWN, None, resting=True) is None


@pytest.mark.parametrize(
    ("percent", "on_mains", "resting", "expected"),
    [
        (20.0, False, False, None),
        (19.9, False, False, "battery"),
        (19.9, True, False, None),
        (19.9, None, False, "battery"),  # nothing tells of a charger
        (24.9, False, True, "battery"),  # 5 more end the rest
        (25.0, False, True, None),
        (3.0, True, True, None),
    ],
)
def test_a_low_battery_without_a_charger_rests(
    percent: float, on_mains: bool | None, resting: bool, expected: str | None
) -> None:
    now = fares(battery_percent=percent, on_mains=on_mains)
    assert kind(now, resting=resting) == expected


def test_the_user_s_own_battery_limit_counts() -> None:
    assert kind(fares(battery_percent=39.0), min_battery_percent=40.0) == "battery"
    assert kind(fares(battery_percent=1.0), min_battery_percent=0.0) is None
    # 98 % and five more can't be reached: a full battery must do.
    assert kind(fares(battery_percent=100.0), resting=True, min_battery_percent=98.0) is None
    assert kind(fares(battery_percent=99.0), resting=True, min_battery_percent=98.0) == "battery"


@pytest.mark.parametrize(
    ("temperature_c", "limit_c", "asked_c", "resting", "expected"),
    [
        (89.9, 95.0, None, False, None),
        (90.0, 95.0, None, False, "throttled"),  # 5 below the device's own limit
        (82.0, 95.0, None, True, "throttled"),
        (81.9, 95.0, None, True, None),  # 8 cooler than where it stopped
        (79.9, None, None, False, None),
        (80.0, None, None, False, "throttled"),
        (65.0, 95.0, 65.0, False, "throttled"),
        (64.9, 95.0, 65.0, False, None),
        (92.0, 95.0, 110.0, False, None),  # the user knows better
    ],
)
def test_a_hot_device_rests_until_it_is_cooler(
    temperature_c: float,
    limit_c: float | None,
    asked_c: float | None,
    resting: bool,
    expected: str | None,
) -> None:
    now = fares(temperature_c=temperature_c, temperature_limit_c=limit_c)
    asked = {} if asked_c is None else {"max_temperature_c": asked_c}
    assert kind(now, resting=resting, **asked) == expected


def test_a_device_that_slows_itself_down_rests_however_cool_it_is() -> None:
    assert kind(fares(throttled=True, temperature_c=None)) == "throttled"


@pytest.mark.parametrize(
    ("full", "free", "resting", "expected"),
    [
        (25.0, SHORT, False, "pressure"),
        (19.0, SHORT, False, None),
        (25.0, AMPLE, False, None),  # a worker that waits for its own file harms nobody
        (25.0, None, False, None),
        (4.0, SHORT, True, "pressure"),  # what it will need is not free yet
        (6.0, AMPLE, True, "pressure"),  # others still wait
        (4.0, AMPLE, True, None),
    ],
)
def test_a_machine_without_memory_rests(
    full: float, free: float | None, resting: bool, expected: str | None
) -> None:
    assert kind(fares(memory_full_avg10=full), free, resting=resting) == expected


HOT = fares(temperature_c=93.0)


def test_one_bad_reading_is_chance_and_a_row_of_them_is_trouble() -> None:
    watch = Watch(Comfort())
    for now in (HOT, WELL) * 5:
        watch.read(now, AMPLE)
    assert watch.trouble is None
    for _ in range(BAD_READINGS):
        assert watch.trouble is None
        watch.read(HOT, AMPLE)
    assert watch.trouble is not None
    assert watch.trouble.kind == "throttled"
    assert "93 °C" in watch.trouble.reason
    assert "90 °C" in watch.trouble.reason


def test_a_rest_ends_after_a_row_of_good_readings_only() -> None:
    watch = Watch(Comfort())
    for _ in range(BAD_READINGS):
        watch.read(HOT, AMPLE)
    for now in [WELL] * (GOOD_READINGS - 1) + [fares(temperature_c=85.0)]:  # still too warm
        watch.read(now, AMPLE)
        assert watch.trouble is not None
    for _ in range(GOOD_READINGS - 1):
        watch.read(WELL, AMPLE)
        assert watch.trouble is not None
    watch.read(WELL, AMPLE)
    assert watch.trouble is None


def test_another_trouble_takes_the_place_of_the_first() -> None:
    watch = Watch(Comfort())
    for _ in range(BAD_READINGS):
        watch.read(HOT, AMPLE)
    watch.read(fares(battery_percent=10.0), AMPLE)
    assert watch.trouble is not None
    assert watch.trouble.kind == "battery"
