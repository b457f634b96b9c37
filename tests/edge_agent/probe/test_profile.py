"""Whole devices: every reading is there, or null with its reason."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.probe.profile import Profile, profile
from tests.edge_agent.probe.recorded import DEVICES

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORIKEET_TEST_ASKED", str(tmp_path / "asked"))


def structs(value: Any, path: str = "") -> Iterator[tuple[str, msgspec.Struct]]:
    """Yield every struct that is part of a value, with where it stands."""
    if isinstance(value, msgspec.Struct):
        yield path, value
        for name in value.__struct_fields__:
            yield from structs(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from structs(one, f"{path}[{i}]")


def check(found: Profile) -> None:
    """Check that the fields that are None, and no others, have a reason."""
    for path, part in structs(found):
        nulls = {name for name in part.__struct_fields__ if getattr(part, name) is None}
        if isinstance(part, Profile):
            nulls -= {"data"}  # that nobody asked about
        reasons = getattr(part, "missing", {})
        assert nulls == set(reasons), path
        assert all(reason.strip() for reason in reasons.values()), path


@pytest.mark.parametrize("name", DEVICES)
def test_what_is_null_has_a_reason_and_what_is_not_has_none(
    device: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    check(profile(tmp_path, device(name)))


def test_on_a_device_that_hides_everything_all_is_null_with_a_reason(
    tree: Callable[[dict[str, str]], Path], tmp_path: Path
) -> None:
    found = profile(tmp_path, tree({}))
    check(found)
    for part in (found.machine, found.memory, found.pressure, found.battery, found.link):
        assert all(getattr(part, name) is None for name in part.__struct_fields__[:-1])


def test_this_machine_is_no_exception(tmp_path: Path) -> None:
    check(profile(tmp_path))


def test_a_jetsons_limit_is_its_one_memory(device: Callable[[str], Path], tmp_path: Path) -> None:
    found = profile(tmp_path, device("jetson_orin"))
    # MemAvailable and what this process holds itself; nothing is added for the GPU
    assert found.memory.limit_bytes == (5483220 + 20480) * 1024
    assert found.memory.total_bytes == 7802780 * 1024
    assert found.battery.on_mains is None  # its USB supply is off, but it has no battery to be on


def test_a_phones_limit_is_what_android_leaves(
    device: Callable[[str], Path], tmp_path: Path
) -> None:
    found = profile(tmp_path, device("phone_termux"))
    assert found.memory.limit_bytes == (2516582 + 24576) * 1024
    assert found.memory.groups is None
    assert (found.battery.percent, found.machine.usable_cores) == (63.0, 8.0)


def test_what_was_asked_for_bounds_the_limit(device: Callable[[str], Path], tmp_path: Path) -> None:
    found = profile(tmp_path, device("pc"), asked_bytes=700 * MIB)
    assert (found.memory.limit_bytes, found.memory.limit_reason) == (700 * MIB, "--memory")


@pytest.mark.parametrize("name", DEVICES)
def test_the_document_reads_back_as_it_was(
    device: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    found = profile(tmp_path, device(name))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Profile) == found
