"""How full the battery is, and whether the device runs on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.battery import battery

Tree = Callable[[dict[str, str]], Path]


def supplies(**kinds: dict[str, str]) -> dict[str, str]:
    return {
        f"sys/class/power_supply/{name}/{file}": f"{text}\n"
        for name, files in kinds.items()
        for file, text in files.items()
    }


def pack(capacity: int, status: str, **more: str) -> dict[str, str]:
    return {"type": "Battery", "capacity": str(capacity), "status": status, **more}


def mains(online: int) -> dict[str, str]:
    return {"type": "Mains", "online": str(online)}


def test_a_laptop_on_its_battery(tree: Tree) -> None:
    found = battery(tree(supplies(AC=mains(0), BAT0=pack(57, "Discharging", temp="312"))))
    assert (found.percent, found.on_mains, found.status) == (57.0, False, "discharging")
    assert found.temperature_c == 31.2  # the class counts tenths
    assert found.missing == {}


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging"])
def test_a_battery_that_is_not_drawn_on_means_mains(tree: Tree, status: str) -> None:
    found = battery(tree(supplies(BAT0=pack(80, status))))
    assert (found.on_mains, found.status) == (True, status.lower())
    assert "temperature_c" in found.missing


@pytest.mark.parametrize(("online", "on_mains"), [(1, True), (0, False)])
def test_the_charger_tells_when_the_battery_does_not_know(
    tree: Tree, online: int, on_mains: bool
) -> None:
    found = battery(tree(supplies(AC=mains(online), BAT0=pack(80, "Unknown"))))
    assert (found.on_mains, found.status) == (on_mains, None)


def test_two_batteries_count_as_their_mean_and_as_the_one_in_use(tree: Tree) -> None:
    files = supplies(BAT0=pack(100, "Unknown"), BAT1=pack(40, "Discharging"))
    found = battery(tree(files))
    assert (found.percent, found.on_mains, found.status) == (70.0, False, "discharging")


def test_a_mouses_battery_is_not_the_devices(device: Callable[[str], Path]) -> None:
    found = battery(device("pc"))
    assert (found.percent, found.on_mains) == (None, None)
    assert found.missing["percent"] == "no battery is listed in /sys/class/power_supply"


def test_a_phone_is_asked_through_termux(
    device: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIKEET_TEST_ASKED", str(tmp_path / "asked"))
    found = battery(device("phone_termux"))
    assert (found.percent, found.on_mains, found.status) == (63.0, False, "discharging")
    assert found.temperature_c == 31.7


@pytest.mark.parametrize("capacity", ["", "150", "-1", "many"])
def test_a_level_that_is_none_is_null(tree: Tree, capacity: str) -> None:
    files = supplies(BAT0={"type": "Battery", "capacity": capacity, "status": "Discharging"})
    found = battery(tree(files))
    assert found.percent is None
    assert "/sys/class/power_supply/BAT0/capacity" in found.missing["percent"]
    assert "termux-battery-status is not on PATH" in found.missing["percent"]
