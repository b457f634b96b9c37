"""A container's health check, run as Docker runs it."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edge_agent.heartbeat import FILE, Sign


def asked(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "edge_agent.doctor.health", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("age_s", "code"), [(5.0, 0), (1000.0, 1)])
def test_an_agent_is_healthy_while_it_gives_signs(tmp_path: Path, age_s: float, code: int) -> None:
    sign = Sign(
        pid=7, device="d", session="s", ts=time.time() - age_s, welcomed=True, state="ready"
    )
    (tmp_path / FILE).write_bytes(msgspec.json.encode(sign))
    assert asked(tmp_path)[0] == code


def test_none_is_not(tmp_path: Path) -> None:
    code, words = asked(tmp_path)
    assert code == 1
    assert "no agent runs" in words


def test_it_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    code = (
        "import sys, edge_agent.doctor.health;"
        "print(*({'typer', 'rich', 'numpy', 'psutil', 'ssl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
