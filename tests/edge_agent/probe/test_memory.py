"""The memory limit is the least of all that apply, read from recorded trees."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.memory import memory, memory_free, memory_limit, parse_size
from edge_agent.probe.reading import UnreadableError

Tree = Callable[[dict[str, str]], Path]
MIB = 1024 * 1024

MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"


def test_without_cgroups_it_is_what_is_available(tree: Tree) -> None:
    limit = memory_limit(root=tree({"proc/meminfo": MEMINFO}))
    assert limit.limit_bytes == 8_000_000 * 1024
    assert "available" in limit.reason


def test_a_v2_parent_with_less_than_its_child_counts(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/user/box\n",
            "sys/fs/cgroup/user/box/memory.max": "700000000\n",
            "sys/fs/cgroup/user/memory.max": "600000000\n",
            "sys/fs/cgroup/user/memory.high": "max\n",
        },
    )
    limit = memory_limit(root=root)
    assert limit.limit_bytes == 600_000_000
    assert limit.reason == "cgroup memory.max"


def test_v2_high_counts_as_a_limit(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "700000000\n",
            "sys/fs/cgroup/a/memory.high": "500000000\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 500_000_000


def test_v1_in_a_container_sees_only_the_mount(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "402653184\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 402_653_184


def test_v1_without_a_limit_is_no_limit(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 8_000_000 * 1024


def test_what_the_user_asks_for_counts_only_when_it_is_less(tree: Tree) -> None:
    root = tree({"proc/meminfo": MEMINFO})
    assert memory_limit(700_000_000, root).reason == "--memory"
    assert memory_limit(10**15, root).limit_bytes == 8_000_000 * 1024


def test_what_others_hold_of_a_group_is_not_ours(device: Callable[[str], Path]) -> None:
    limit = memory_limit(root=device("container_v2"))
    # memory.high of 700 MiB, 470 taken, 24 of that by this process
    assert limit.limit_bytes == (700 - (470 - 24)) * MIB
    assert limit.reason == "cgroup memory.high, less what others hold"


def test_what_the_agents_processes_hold_is_theirs_already(device: Callable[[str], Path]) -> None:
    root = device("container_v2")
    assert memory_limit(root=root, own_bytes=470 * MIB).limit_bytes == 700 * MIB
    assert memory_limit(root=root, own_bytes=170 * MIB).limit_bytes == 400 * MIB


def test_free_is_the_least_rest_of_any_limit(device: Callable[[str], Path]) -> None:
    root = device("container_v2")
    assert memory_free(root=root).limit_bytes == (700 - 470) * MIB
    assert memory_free(root=root).reason == "cgroup memory.high, less what is used"
    asked = memory_free(100 * MIB, root)
    assert asked.limit_bytes == (100 - 24) * MIB
    assert asked.reason == "--memory, less what this process holds"


def test_a_v1_container_is_bound_by_a_group_that_it_can_not_see(
    device: Callable[[str], Path],
) -> None:
    root = device("container_v1")
    assert memory_limit(root=root).limit_bytes == 384 * MIB
    assert memory_free(root=root).limit_bytes == (384 - 40) * MIB


def test_a_group_that_is_over_its_limit_leaves_nothing(tree: Tree) -> None:
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.high": "1000000\n",
            "sys/fs/cgroup/a/memory.current": "90000000\n",
        },
    )
    assert memory_free(root=root).limit_bytes == 0
    assert memory_limit(root=root).limit_bytes == 0


def test_where_nothing_tells_the_memory_the_way_out_is_named(tree: Tree) -> None:
    root = tree({})
    with pytest.raises(UnreadableError, match="--memory"):
        memory_limit(root=root)
    assert memory_limit(5, root).limit_bytes == 5
    found = memory(root)
    assert (found.limit_bytes, found.free_bytes, found.total_bytes) == (None, None, None)
    assert found.missing["total_bytes"] == "/proc/meminfo is not there"


def test_this_machines_memory_is_what_another_library_says() -> None:
    import psutil

    assert memory().total_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("700MB", 700_000_000),
        ("1.5GiB", 1_610_612_736),
        ("900000", 900_000),
        ("64 kib", 65_536),
        ("2g", 2_000_000_000),
    ],
)
def test_sizes_are_read_with_their_unit(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1GB", "12parsecs", "0", "1e999", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="700MB"):
        parse_size(text)
