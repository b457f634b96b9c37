"""The memory limit is the least of all that apply, read from recorded trees."""

from pathlib import Path

import pytest

from edge_agent.probe.memory import memory_limit, parse_size


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"


def test_without_cgroups_it_is_what_is_available(tmp_path: Path) -> None:
    limit = memory_limit(root=tree(tmp_path, {"proc/meminfo": MEMINFO}))
    assert limit.limit_bytes == 8_000_000 * 1024
    assert "available" in limit.reason


def test_a_v2_parent_with_less_than_its_child_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
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


def test_v2_high_counts_as_a_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a\n",
            "sys/fs/cgroup/a/memory.max": "700000000\n",
            "sys/fs/cgroup/a/memory.high": "500000000\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 500_000_000


def test_v1_in_a_container_sees_only_the_mount(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "402653184\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 402_653_184


def test_v1_without_a_limit_is_no_limit(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "5:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert memory_limit(root=root).limit_bytes == 8_000_000 * 1024


def test_what_the_user_asks_for_counts_only_when_it_is_less(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/meminfo": MEMINFO})
    assert memory_limit(700_000_000, root).reason == "--memory"
    assert memory_limit(10**15, root).limit_bytes == 8_000_000 * 1024


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
