"""The agent's process: it is small, and takes over from the command line under the same id."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.run_command import become_agent
from edge_agent.task_run import Settings
from tests.system.hub_process import poll

#: What reads options, prints tables and trains; an agent that waits does none of it.
NEVER = ("typer", "rich", "pydantic", "psutil", "yaml", "asyncio", "numpy", "torch")


def settings(folder: Path, data: Path) -> Settings:
    return Settings(
        broker="mqtt://127.0.0.1:9",
        fleet="f",
        device="d",
        data=[str(data)],
        state_folder=str(folder),
    )


def test_a_waiting_agent_holds_nothing_that_only_the_command_line_needs() -> None:
    code = (
        "import sys, edge_agent.run_command, edge_agent.agent, edge_agent.probe.conditions as c;"
        f"c.conditions(); print(*(set({NEVER}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_agent_keeps_the_process_id_and_ends_on_a_signal(tmp_path: Path) -> None:
    data = tmp_path / "my.txt"
    data.write_text("a line of text\n" * 100)
    log = tmp_path / "log"
    command = [
        str(Path(sys.executable).with_name("lorikeet-agent")), "run",
        "--broker", "mqtt://127.0.0.1:9", "--data", str(data), "--state", str(tmp_path / "state"),
        "--id", "ward", "--json",
    ]  # fmt: skip
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as agent,
    ):
        try:
            poll("the agent", lambda: agent.poll() is not None or b"is away" in log.read_bytes())
            words = Path(f"/proc/{agent.pid}/cmdline").read_bytes().split(b"\0")
            assert b"edge_agent.run_command" in words
            agent.send_signal(signal.SIGTERM)
            output, _ = agent.communicate(timeout=60)
        finally:
            agent.kill()
    assert agent.returncode == 0, log.read_text()
    assert output.startswith(b'{"device":"ward","peak_bytes":')


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        become_agent(settings(tmp_path, tmp_path / "caf\udce9.txt"), as_json=False)
