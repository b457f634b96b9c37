"""A group of version 1, as this machine's kernel makes it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.limits.cgroup_v1 import V1Group
from edge_agent.limits.contract import GroupError
from edge_agent.probe.cgroups import levels

ALLOCATE = "import sys; sys.stdin.readline(); kept = b'x' * int(sys.argv[1])"
MIB = 2**20


def own_group() -> Path | None:
    found = [level for level in levels(Path("/"), "memory") if level.version == 1]
    return Path("/") / found[0].folder if found else None


@pytest.fixture
def group():
    parent = own_group()
    if parent is None:
        pytest.skip("no memory controller of version 1 is mounted")
    made = V1Group(parent, "lorikeet-test-1")
    yield made
    made.remove()
    assert not made.folder.exists()


def allocate(group, size_bytes):
    """Let a process in the group allocate; return its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", ALLOCATE, str(size_bytes)], stdin=subprocess.PIPE
    )
    group.add(process.pid)
    process.communicate(b"\n", timeout=30)
    return process.returncode


@pytest.mark.root
def test_what_stays_within_the_limit_lives_and_what_does_not_is_killed_and_counted(group):
    group.limit(64 * MIB)
    assert allocate(group, 20 * MIB) == 0
    assert group.kills() == 0
    assert allocate(group, 200 * MIB) == -signal.SIGKILL
    assert group.kills() == 1


@pytest.mark.root
def test_children_are_born_into_it(group):
    group.limit(64 * MIB)
    script = f"import subprocess, sys; sys.stdin.readline(); " \
             f"sys.exit(-subprocess.run([sys.executable, '-c', {ALLOCATE!r}, '{200 * MIB}'], " \
             f"input=b'x').returncode)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    group.add(process.pid)
    process.communicate(b"\n", timeout=30)
    assert process.returncode == signal.SIGKILL
    assert group.kills() == 1


@pytest.mark.root
def test_the_limit_may_rise_and_fall_and_counts_swap(group):
    for size in (64 * MIB, 32 * MIB, 128 * MIB):
        group.limit(size)
        assert int((group.folder / "memory.limit_in_bytes").read_text()) == size
        with_swap = group.folder / "memory.memsw.limit_in_bytes"
        assert not with_swap.exists() or int(with_swap.read_text()) == size


@pytest.mark.root
def test_a_process_that_is_gone_can_not_be_added(group):
    with pytest.raises(GroupError, match="no such process"):
        group.add(2**22 - 1)


def test_a_folder_of_no_kernel_is_no_group(tmp_path):
    with pytest.raises(GroupError, match="not a group of the memory controller"):
        V1Group(tmp_path, "lorikeet-test-1")
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_not_there(tmp_path):
    with pytest.raises(GroupError, match="no such file"):
        V1Group(tmp_path / "absent", "lorikeet-test-1")
