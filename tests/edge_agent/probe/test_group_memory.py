"""Each limit of the ancestry is told with what is taken of it. Sums by hand from the trees."""

from collections.abc import Callable
from pathlib import Path

from edge_agent.probe.group_memory import group_limits

MIB = 1024 * 1024


def test_each_limit_of_v2_is_told_with_its_use(device: Callable[[str], Path]) -> None:
    found = group_limits(device("container_v2"))
    assert [(one.file, one.limit_bytes) for one in found] == [
        ("memory.max", 1024 * MIB),
        ("memory.max", 768 * MIB),
        ("memory.high", 700 * MIB),
        ("memory.max", 8192 * MIB),
    ]
    assert [one.used_bytes for one in found] == [130 * MIB, 670 * MIB, 670 * MIB, 5120 * MIB]
    # 90 + 15, 150 + 50, 512 + 256 of file cache, inactive and active
    assert [one.reclaimable_bytes for one in found] == [105 * MIB, 200 * MIB, 200 * MIB, 768 * MIB]
    assert [one.taken_bytes() for one in found] == [25 * MIB, 470 * MIB, 470 * MIB, 4352 * MIB]


def test_v1_counts_what_is_below_and_tells_of_hidden_groups_above(
    device: Callable[[str], Path],
) -> None:
    own, hidden = group_limits(device("container_v1"))
    assert (own.file, own.limit_bytes) == ("memory.limit_in_bytes", 512 * MIB)
    assert hidden.limit_bytes == 384 * MIB
    assert hidden.file == "memory.stat hierarchical_memory_limit"
    assert own.reclaimable_bytes == (100 + 40) * MIB  # total_inactive_file, total_active_file
    assert own.taken_bytes() == 40 * MIB


def test_a_group_that_hides_its_use_says_so(tree: Callable[[dict[str, str]], Path]) -> None:
    root = tree({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1000\n"})
    [group] = group_limits(root)
    assert (group.used_bytes, group.taken_bytes()) == (None, None)
    assert group.missing == {
        "used_bytes": "/sys/fs/cgroup/a/memory.current is not there",
        "reclaimable_bytes": "/sys/fs/cgroup/a/memory.stat is not there",
    }
