"""The kernel's first choice, when the whole machine is out of memory, is a worker."""

import subprocess
import sys
from pathlib import Path

import pytest

from wire.victim import offer_to_killer


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="no such kernel")
def test_a_worker_is_killed_before_its_supervisor() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        offer_to_killer(process.pid)
        ours = int(Path("/proc/self/oom_score").read_text())
        assert int(Path(f"/proc/{process.pid}/oom_score").read_text()) > ours
    finally:
        process.communicate(b"\n")


def test_a_system_without_such_a_file_is_none_the_worse(tmp_path: Path) -> None:
    offer_to_killer(1, tmp_path)
    assert list(tmp_path.iterdir()) == []
