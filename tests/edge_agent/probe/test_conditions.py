"""What pauses a task is read cheaply, from any device, and never raises."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.probe.conditions import Conditions, conditions

Tree = Callable[[dict[str, str]], Path]
NAMES = [
    "proc/self/cgroup", "proc/self/mountinfo", "proc/pressure/memory",
    "proc/device-tree/compatible", "sys/fs/cgroup/memory.pressure",
    "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/class/thermal/cooling_device0/type", "sys/class/thermal/cooling_device0/cur_state",
    "sys/class/hwmon/hwmon0/temp1_input", "sys/class/hwmon/hwmon0/temp1_crit",
    "sys/class/power_supply/BAT0/type", "sys/class/power_supply/BAT0/capacity",
    "sys/class/power_supply/BAT0/temp",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
]  # fmt: skip
#: What a file may hold: words that mean something somewhere, and anything.
CONTENT = st.one_of(
    st.sampled_from(
        ["cpu-thermal", "passive", "Processor", "Battery", "0::/", "4:memory:/a", "0::/\0",
         "99000", "-1", "9" * 5000, "some avg10=1.00 avg60=1.00", "50005", "-ff"]
    ),
    st.text(max_size=30),
)  # fmt: skip


def test_a_hot_raspberry_pi(device: Callable[[str], Path]) -> None:
    assert conditions(device("raspberry_pi")) == Conditions(
        temperature_c=82.764,
        temperature_limit_c=80.0,
        throttled=True,
        battery_percent=None,
        on_mains=None,
        memory_some_avg10=None,
        memory_full_avg10=None,
    )


def test_a_full_group_on_a_machine_with_room(device: Callable[[str], Path]) -> None:
    found = conditions(device("container_v2"))
    assert (found.memory_some_avg10, found.memory_full_avg10) == (7.5, 6.25)
    assert found.temperature_c is None


def test_a_phone_is_asked_once_however_often_the_conditions_are_read(
    device: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIKEET_TEST_ASKED", str(tmp_path / "asked"))
    root = device("phone_termux")
    for _ in range(10):
        found = conditions(root)
        assert (found.battery_percent, found.on_mains) == (63.0, False)
    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_device_that_hides_everything_leaves_everything_none(tree: Tree) -> None:
    found = conditions(tree({}))
    assert all(getattr(found, name) is None for name in found.__struct_fields__)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(files=st.dictionaries(st.sampled_from(NAMES), CONTENT))
def test_nothing_that_a_file_may_hold_raises(tree: Tree, files: dict[str, str]) -> None:
    found = conditions(tree(files))
    assert isinstance(found, Conditions)


def test_on_this_machine_it_does_not_raise() -> None:
    assert isinstance(conditions(), Conditions)
