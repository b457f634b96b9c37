"""The cores that we may use: affinity and the least quota above us, never less than one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.machine import cores, describe_machine

Tree = Callable[[dict[str, str]], Path]


def test_the_least_quota_of_the_ancestry_counts(device: Callable[[str], Path]) -> None:
    found = describe_machine(device("container_v2"))  # 2 cores for us, 1.5 for the pod
    assert (found.cores, found.allowed_cores, found.quota_cores) == (16, 16, 1.5)
    assert found.usable_cores == 1.5


def test_a_quota_of_half_a_core_leaves_one_thread(device: Callable[[str], Path]) -> None:
    found = describe_machine(device("container_v1"))  # 50,000 of 100,000 us
    assert (found.quota_cores, found.usable_cores) == (0.5, 1.0)


def test_without_a_quota_the_affinity_counts(device: Callable[[str], Path]) -> None:
    root = device("pc")
    found = describe_machine(root)
    assert (found.quota_cores, found.usable_cores, cores(root)) == (None, 12.0, 12.0)
    assert found.missing == {"quota_cores": "no control group sets a quota"}
    assert (found.machine, found.kernel) == ("x86_64", "6.8.0-45-generic")
    assert found.model == "ASUS System Product Name"


def test_a_v1_quota_of_minus_one_is_none(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/status": "Cpus_allowed_list:\t0-1,4\n",
            "proc/self/cgroup": "4:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cores(root) == 3.0  # 0, 1 and 4


@pytest.mark.parametrize("text", ["", "x", "50000", "50000 0", "50000 x", "max", "-5 100000"])
def test_a_quota_that_is_none_is_passed_over(tree: Tree, text: str) -> None:
    root = tree(
        {
            "proc/self/status": "Cpus_allowed_list:\t0-3\n",
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": text,
        }
    )
    assert cores(root) == 4.0


def test_boards_name_themselves_in_the_device_tree(device: Callable[[str], Path]) -> None:
    found = describe_machine(device("raspberry_pi"))
    assert (found.model, found.machine) == ("Raspberry Pi 4 Model B Rev 1.4", "aarch64")


def test_where_nothing_tells_the_cores_they_are_null_and_threads_are_one(tree: Tree) -> None:
    root = tree({})
    found = describe_machine(root)
    assert (found.cores, found.allowed_cores, found.usable_cores) == (None, None, None)
    assert cores(root) == 1.0


def test_on_this_machine_no_more_than_the_affinity_is_used() -> None:
    assert 1.0 <= cores() <= len(os.sched_getaffinity(0))
