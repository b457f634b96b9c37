"""The temperature that matters is the one that is nearest to its own limit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.thermal import Sensor, hottest, sensors, thermal

Tree = Callable[[dict[str, str]], Path]


def by_name(root: Path) -> dict[str, Sensor]:
    return {sensor.name: sensor for sensor in sensors(root)}


def test_a_passive_trip_point_is_the_limit_before_the_critical_one(
    device: Callable[[str], Path],
) -> None:
    found = by_name(device("jetson_orin"))
    assert found["cpu-thermal"].limits_c == {"critical": 104.5, "passive": 99.0}
    assert found["cpu-thermal"].limit_c() == 99.0
    assert found["tj-thermal"].limit_c() == 104.5  # its active one only starts the fan


def test_the_sensor_nearest_to_its_limit_is_told(device: Callable[[str], Path]) -> None:
    found = thermal(device("jetson_orin"))  # tj is warmer, but further from its limit
    assert (found.sensor, found.temperature_c, found.limit_c) == ("cpu-thermal", 88.25, 99.0)


def test_a_sensor_without_a_limit_counts_when_it_is_hot() -> None:
    def sensor(name: str, temperature_c: float, limit_c: float | None) -> Sensor:
        limits = {} if limit_c is None else {"critical": limit_c}
        return Sensor(name=name, source="", temperature_c=temperature_c, limits_c=limits)

    cool = sensor("a", 50.0, 100.0)
    assert hottest([cool, sensor("b", 90.0, None)]).name == "b"  # type: ignore[union-attr]
    assert hottest([cool, sensor("b", 40.0, None)]).name == "a"  # type: ignore[union-attr]
    assert hottest([]) is None


def test_a_sensor_that_is_switched_off_is_null_and_the_others_remain(
    device: Callable[[str], Path],
) -> None:
    gpu = by_name(device("jetson_orin"))["gpu-thermal"]
    assert gpu.temperature_c is None
    assert "-256 °C" in gpu.missing["temperature_c"]


def test_trip_points_that_firmware_left_unset_are_no_limits(device: Callable[[str], Path]) -> None:
    found = by_name(device("pc"))
    assert found["acpitz"].limits_c == {}  # critical at 20.8 °C
    assert found["x86_pkg_temp"].limits_c == {}  # passive at 0 °C


def test_hwmon_tells_its_labels_and_limits(device: Callable[[str], Path]) -> None:
    found = by_name(device("pc"))
    assert found["coretemp Package id 0"].limits_c == {"critical": 100.0, "high": 82.0}
    assert found["coretemp Package id 0"].limit_c() == 100.0
    assert found["nvme Composite"].temperature_c == 58.85
    assert thermal(device("pc")).sensor == "nvme Composite"  # 26 below; the processor is 39 below


def test_the_high_mark_is_the_limit_where_there_is_no_critical_one(tree: Tree) -> None:
    files = {"name": "w83795", "temp1_input": "41000", "temp1_max": "80000"}
    root = tree({f"sys/class/hwmon/hwmon0/{name}": text for name, text in files.items()})
    [sensor] = sensors(root)
    assert (sensor.name, sensor.limit_c()) == ("w83795", 80.0)


def test_a_raspberry_pi_slows_down_at_80_degrees(device: Callable[[str], Path]) -> None:
    found = thermal(device("raspberry_pi"))
    assert (found.sensor, found.temperature_c, found.limit_c) == ("cpu-thermal", 82.764, 80.0)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "/sys/class/thermal is not there; /sys/class/hwmon is not there"),
        ({"sys/class/thermal/x": ""}, "/sys/class/thermal lists no sensor"),
    ],
)
def test_without_a_sensor_all_is_null(tree: Tree, files: dict[str, str], reason: str) -> None:
    found = thermal(tree(files))
    assert (found.temperature_c, found.limit_c, found.sensor, found.sensors) == (None,) * 4
    assert all(reason in told for told in found.missing.values())
