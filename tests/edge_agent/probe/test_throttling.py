"""Whether the device slows itself down; a Raspberry Pi's bits decoded by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.throttling import throttling

Tree = Callable[[dict[str, str]], Path]
PI = "sys/devices/platform/soc/soc:firmware/get_throttled"


def test_a_hot_raspberry_pi_tells_now_and_ever(device: Callable[[str], Path]) -> None:
    found = throttling(device("raspberry_pi"))  # 0xe000e: bits 1, 2, 3 and 17, 18, 19
    words = ["frequency capped", "throttled", "soft temperature limit"]
    assert (found.throttled, found.now, found.ever) == (True, words, words)
    assert found.missing == {}


@pytest.mark.parametrize(
    ("text", "throttled", "now", "ever"),
    [
        ("0\n", False, [], []),
        ("50005\n", True, ["under-voltage", "throttled"], ["under-voltage", "throttled"]),
        ("0x50000\n", False, [], ["under-voltage", "throttled"]),
        ("1\n", False, ["under-voltage"], []),
        ("80008\n", True, ["soft temperature limit"], ["soft temperature limit"]),
    ],
)
def test_the_firmwares_bits_have_the_documented_meaning(
    tree: Tree, text: str, throttled: bool, now: list[str], ever: list[str]
) -> None:
    found = throttling(tree({PI: text}))
    assert (found.throttled, found.now, found.ever) == (throttled, now, ever)


def test_a_newer_board_has_the_firmware_elsewhere(tree: Tree) -> None:
    root = tree({"sys/devices/platform/soc@107c000000/firmware/get_throttled": "4"})
    assert throttling(root).now == ["throttled"]
    assert throttling(tree({"sys/devices/platform/soc:firmware/get_throttled": "4"})).throttled


def test_a_fan_that_turns_is_no_throttling(device: Callable[[str], Path]) -> None:
    found = throttling(device("jetson_orin"))
    assert (found.throttled, found.now) == (False, [])
    assert (found.ever, set(found.missing)) == (None, {"ever"})


def test_a_processor_that_is_slowed_down_is_named_once(tree: Tree) -> None:
    files = {}
    for i in range(4):
        files[f"sys/class/thermal/cooling_device{i}/type"] = "Processor\n"
        files[f"sys/class/thermal/cooling_device{i}/cur_state"] = "3\n"
        files[f"sys/class/thermal/cooling_device{i}/max_state"] = "10\n"
    found = throttling(tree(files))
    assert (found.throttled, found.now) == (True, ["Processor at 3 of 10"])


def test_x86_tells_how_often(device: Callable[[str], Path]) -> None:
    found = throttling(device("pc"))
    assert (found.throttled, found.now) == (False, [])
    assert found.ever == ["processor throttled 14 times"]


def test_where_nothing_tells_it_is_null_with_the_reason(device: Callable[[str], Path]) -> None:
    found = throttling(device("phone_termux"))
    assert (found.throttled, found.now, found.ever) == (None, None, None)
    assert found.missing["throttled"] == "/sys/class/thermal is not there"
