"""Our groups are found by the mounts, from ours up to the highest that can be seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.cgroups import Level, levels
from edge_agent.probe.reading import UnreadableError

Tree = Callable[[dict[str, str]], Path]


def test_every_level_of_v2_is_found_from_ours_upwards(device: Callable[[str], Path]) -> None:
    found = levels(device("container_v2"), "memory")
    assert {level.version for level in found} == {2}
    assert [level.folder.rpartition("/")[2] for level in found] == [
        "cri-containerd-91be.scope",
        "kubepods-burstable-pod7f3c.slice",
        "kubepods-burstable.slice",
        "kubepods.slice",
        "cgroup",
    ]


def test_a_v1_container_sees_its_group_at_the_mount(device: Callable[[str], Path]) -> None:
    root = device("container_v1")
    assert levels(root, "memory") == [Level(1, "sys/fs/cgroup/memory")]
    assert levels(root, "cpu") == [Level(1, "sys/fs/cgroup/cpu,cpuacct")]


def test_a_mount_elsewhere_is_found(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "0::/box\n",
            "proc/self/mountinfo": "1 2 0:3 / /mnt/my\\040groups rw - cgroup2 none rw\n",
            "mnt/my groups/box/memory.max": "max\n",
        }
    )
    assert [level.folder for level in levels(root, "memory")] == [
        "mnt/my groups/box",
        "mnt/my groups",
    ]


def test_a_mount_of_a_group_shows_only_what_is_below_it(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "0::/docker/ab/inner\n",
            "proc/self/mountinfo": "1 2 0:3 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "sys/fs/cgroup/inner/memory.max": "max\n",
            "sys/fs/cgroup/docker/ab/memory.max": "1\n",  # another's, of a container in it
        }
    )
    assert [level.folder for level in levels(root, "memory")] == [
        "sys/fs/cgroup/inner",
        "sys/fs/cgroup",
    ]


def test_a_group_outside_of_the_namespace_leaves_the_mount(tree: Tree) -> None:
    root = tree(
        {"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/other/memory.max": "1\n"},
    )
    assert levels(root, "memory") == [Level(2, "sys/fs/cgroup")]


def test_a_neighbour_with_the_mounts_name_in_front_is_not_ours(tree: Tree) -> None:
    root = tree(
        {
            "proc/self/cgroup": "0::/docker/abc\n",
            "proc/self/mountinfo": "1 2 0:3 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "sys/fs/cgroup/c/memory.max": "1\n",
        }
    )
    assert levels(root, "memory") == [Level(2, "sys/fs/cgroup")]


def test_without_the_list_of_our_groups_the_reason_is_said(tree: Tree) -> None:
    with pytest.raises(UnreadableError, match="/proc/self/cgroup is not there"):
        levels(tree({}), "memory")
