"""Which means is in force, and what happens where none can be had."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.limits.enforcement import Enforcement
from edge_agent.probe.cgroups import levels

ALLOCATE = "import sys; sys.stdin.readline(); kept = b'x' * int(sys.argv[1])"
MIB = 2**20


def gone_pid():
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_limit_that_nobody_set_is_watched_only(tree, caplog):
    caplog.set_level("INFO")
    enforcement = Enforcement("ward", hard=False, root=tree.root)
    enforcement.begin()
    enforcement.hold(1, 10**9)
    enforcement.adjust(10**9)
    assert (enforcement.kind, enforcement.kills()) == ("watchdog", 0)
    enforcement.close()
    assert len(caplog.records) == 1
    assert not [path for path in tree.own.iterdir() if path.is_dir()]


def test_in_a_tree_of_version_2(tree):
    enforcement = Enforcement("ward", hard=True, root=tree.root)
    assert enforcement.kind == "watchdog"
    enforcement.begin()
    assert enforcement.kind == "cgroup v2"
    folder = tree.own / f"lorikeet-ward-{os.getpid()}"
    enforcement.hold(4242, 700_000_000)
    assert tree.processes(folder) == ["4242"]
    enforcement.adjust(600_000_000)
    assert (folder / "memory.max").read_text() == "600000000\n"
    (folder / "memory.events").write_text("oom_kill 1\n")
    assert enforcement.kills() == 1
    tree.move(4242, tree.root / "sys/fs/cgroup")
    enforcement.close()
    assert enforcement.kind == "watchdog"
    assert not folder.exists()


def test_groups_of_agents_that_were_killed_are_removed_and_others_stay(tree, monkeypatch):
    monkeypatch.setattr("edge_agent.limits.enforcement.remove_folder", tree.remove)
    dead = gone_pid()
    for name in (f"lorikeet-ward-{dead}", f"lorikeet-ward-{dead}.supervisor",
                 f"lorikeet-other-{os.getppid()}", "another"):  # fmt: skip
        tree.make(tree.own / name)
    Enforcement("ward", hard=True, root=tree.root).begin()
    left = {path.name for path in tree.own.iterdir() if path.is_dir()}
    mine = f"lorikeet-ward-{os.getpid()}"
    assert left == {f"lorikeet-other-{os.getppid()}", "another", mine, f"{mine}.supervisor"}


@pytest.mark.parametrize("why", ["no cgroups", "no controller", "others"])
def test_where_no_group_can_be_made_the_watchdog_serves_and_one_line_says_why(tree, caplog, why):
    caplog.set_level("INFO")
    if why == "no cgroups":
        (tree.root / "proc/self/cgroup").unlink()
    elif why == "no controller":
        (tree.own / "cgroup.controllers").write_text("cpu\n")
    else:
        (tree.own / "cgroup.procs").write_text(f"{os.getpid()}\n999\n")
    enforcement = Enforcement("ward", hard=True, root=tree.root)
    enforcement.begin()
    assert enforcement.kind == "watchdog"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "by a watchdog; no control group:" in caplog.text


def test_a_group_that_stops_obeying_gives_way_to_the_watchdog(tree, caplog):
    caplog.set_level("INFO")
    enforcement = Enforcement("ward", hard=True, root=tree.root)
    enforcement.begin()
    (tree.own / f"lorikeet-ward-{os.getpid()}" / "cgroup.procs").unlink()
    enforcement.hold(4242, 1000)
    assert enforcement.kind == "watchdog"
    assert "no such file" in caplog.text
    enforcement.hold(4243, 1000)
    enforcement.close()


@pytest.mark.root
def test_a_worker_on_this_machine_is_killed_at_its_share():
    """The kernel's own kill, in whichever version this machine has the controller."""
    found = levels(Path("/"), "memory")
    if not found:
        pytest.skip("this machine shows no cgroups")
    enforcement = Enforcement("ward", hard=True)
    enforcement.begin()
    if enforcement.kind == "watchdog":
        pytest.skip("no group can be made here")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", ALLOCATE, str(200 * MIB)], stdin=subprocess.PIPE
        )
        enforcement.hold(process.pid, 64 * MIB)
        process.communicate(b"\n", timeout=30)
        assert process.returncode == -signal.SIGKILL
        assert enforcement.kills() == 1
    finally:
        enforcement.close()
    name = f"lorikeet-ward-{os.getpid()}"
    assert not any((Path("/") / level.folder / name).exists() for level in found)
