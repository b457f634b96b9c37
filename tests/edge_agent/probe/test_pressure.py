"""Stalls are told in percent of time, the machine's and our group's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.pressure import pressure

Tree = Callable[[dict[str, str]], Path]


def test_the_machines_stalls_are_told(device: Callable[[str], Path]) -> None:
    found = pressure(device("pc"))
    assert found.memory is not None
    assert (found.memory.some_avg60, found.memory.full_avg60) == (0.10, 0.08)
    assert found.cpu is not None
    assert found.cpu.some_avg10 == 3.20
    assert found.io is not None
    assert found.io.full_avg10 == 0.40
    assert found.missing == {}


def test_our_groups_stalls_are_told_beside_the_machines(device: Callable[[str], Path]) -> None:
    found = pressure(device("container_v2"))
    assert found.memory is not None
    assert found.memory.some_avg10 == 0.0
    assert found.group_memory is not None
    assert (found.group_memory.some_avg10, found.group_memory.full_avg10) == (7.5, 6.25)


def test_an_older_kernel_tells_no_full_stall_of_processors(device: Callable[[str], Path]) -> None:
    found = pressure(device("container_v2"))
    assert found.cpu is not None
    assert (found.cpu.some_avg10, found.cpu.full_avg10) == (12.0, None)
    assert "full_avg10" in found.cpu.missing


def test_a_kernel_without_it_leaves_the_reason(device: Callable[[str], Path]) -> None:
    found = pressure(device("container_v1"))
    assert found.memory is None
    assert found.missing["memory"] == "/proc/pressure/memory is not there"
    assert "cgroup v2" in found.missing["group_memory"]


@pytest.mark.parametrize("text", ["", "\n\n", "some avg10=nan avg60=0", "some avg10=101", "x"])
def test_what_is_no_pressure_is_null(tree: Tree, text: str) -> None:
    found = pressure(tree({"proc/pressure/memory": text}))
    assert found.memory is None
    assert "/proc/pressure/memory" in found.missing["memory"]
