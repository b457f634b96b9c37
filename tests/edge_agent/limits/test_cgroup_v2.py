"""A group of version 2, in a recorded tree that follows the kernel's rules."""

import os

import pytest

from edge_agent.limits.cgroup_v2 import V2Group
from edge_agent.limits.contract import GroupError

ME = str(os.getpid())
WORKER = 4242


def test_an_agent_alone_in_its_group_moves_into_a_leaf_and_limits_the_worker(tree):
    group = V2Group(tree.own, "lorikeet-ward-7")
    group.limit(500_000_000)
    group.add(WORKER)
    assert group.folder == tree.own / "lorikeet-ward-7"
    assert tree.processes(tree.own / "lorikeet-ward-7.supervisor") == [ME]
    assert tree.processes(tree.own) == []
    assert tree.processes(group.folder) == [str(WORKER)]
    assert (group.folder / "memory.max").read_text() == "500000000\n"
    assert (group.folder / "memory.swap.max").read_text() == "0\n"


def test_kills_are_those_of_the_killer_and_no_other_event(tree):
    group = V2Group(tree.own, "lorikeet-ward-7")
    assert group.kills() == 0
    (group.folder / "memory.events").write_text(
        "low 0\nhigh 9\nmax 31\noom 3\noom_kill 2\noom_group_kill 1\n"
    )
    assert group.kills() == 2


def test_everything_is_as_before_when_it_goes(tree):
    before = sorted(path.name for path in tree.own.iterdir())
    V2Group(tree.own, "lorikeet-ward-7").remove()
    assert sorted(path.name for path in tree.own.iterdir()) == before
    assert tree.processes(tree.own) == [ME]
    assert (tree.own / "cgroup.subtree_control").read_text().strip() == ""


def test_a_group_that_already_hands_memory_on_is_left_as_it_is(tree):
    (tree.own / "cgroup.procs").write_text("")  # as at the root of a hierarchy
    tree.write(tree.own / "cgroup.subtree_control", "+memory")
    (tree.own / "cgroup.procs").write_text(f"{ME}\n")
    V2Group(tree.own, "lorikeet-ward-7").remove()
    assert tree.processes(tree.own) == [ME]
    assert (tree.own / "cgroup.subtree_control").read_text().strip() == "memory"


def test_other_people_s_processes_are_not_moved(tree):
    (tree.own / "cgroup.procs").write_text(f"{ME}\n999\n1000\n")
    with pytest.raises(GroupError, match=r"holds 2 other processes.*Delegate=yes"):
        V2Group(tree.own, "lorikeet-ward-7")
    assert tree.processes(tree.own) == [ME, "999", "1000"]
    assert not [path for path in tree.own.iterdir() if path.is_dir()]


def test_without_the_memory_controller_there_is_no_group(tree):
    (tree.own / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(GroupError, match="not handed on"):
        V2Group(tree.own, "lorikeet-ward-7")
    assert not [path for path in tree.own.iterdir() if path.is_dir()]


def test_a_kernel_without_swap_accounting(tree):
    group = V2Group(tree.own, "lorikeet-ward-7")
    (group.folder / "memory.swap.max").unlink()
    group.limit(1_000)
    assert (group.folder / "memory.max").read_text() == "1000\n"
