"""``lorikeet-agent doctor`` beside a real agent, broker and hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Mosquitto
from tests.system.agent_process import AgentProcess, agent_command
from tests.system.hub_process import HubProcess, poll

pytestmark = pytest.mark.broker


def examined(state: Path, *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Return the exit code, and the findings by check."""
    done = agent_command("doctor", "--state", str(state), "--json", *words)
    document = json.loads(done.stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for one in document["findings"]:
        found.setdefault(one["check"], []).append(one)
    assert document["ok"] == (done.returncode == 0)
    return done.returncode, found


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto) -> Iterator[AgentProcess]:
    text = tmp_path / "my.txt"
    text.write_text("a line of private text\n\n" * 40)
    with AgentProcess(tmp_path / "agent", broker.url, "ward", text) as agent:
        yield agent


def test_all_is_well_beside_a_running_agent_and_its_hub(
    tmp_path: Path, broker: Mosquitto, agent: AgentProcess
) -> None:
    (tmp_path / "hub").mkdir()
    hub = HubProcess(tmp_path / "hub", broker.url)
    hub.start()
    try:
        poll("the agent", lambda: '"welcomed":true' in sign_of(agent))
        code, found = examined(agent.state)
        numbers = httpx.get(f"{hub.url}/metrics").text.splitlines()
    finally:
        hub.stop()
    assert code == 0, found
    assert 'lorikeet_devices{state="ready"} 1.0' in numbers
    assert {"agent", "clock", "broker", "hub", "disk", "memory", "runtime", "data"} <= set(found)
    assert found["agent"][0]["level"] == found["broker"][0]["level"] == "ok"
    assert found["hub"][0]["found"].startswith("there, models at http://127.0.0.1:")
    assert "private text" not in json.dumps(found)


def test_a_broker_that_is_away_is_named_with_the_reason(
    tmp_path: Path, broker: Mosquitto, agent: AgentProcess
) -> None:
    poll("the agent", lambda: sign_of(agent) != "")
    code, found = examined(agent.state, "--only", "broker")
    assert code == 1
    assert "no hub has spoken in fleet" in found["hub"][0]["found"]
    broker.kill()
    code, found = examined(agent.state, "--only", "broker")
    assert code == 1
    assert "refused" in found["broker"][0]["found"]
    agent.close()
    code, found = examined(agent.state, "--only", "agent")
    assert code == 1
    assert "no agent runs" in found["agent"][0]["found"]


def test_a_table_says_what_to_do(tmp_path: Path) -> None:
    done = agent_command("doctor", "--state", str(tmp_path), "--only", "agent", "--only", "broker")
    assert done.returncode == 1
    assert "→ start it with lorikeet-agent run" in " ".join(done.stdout.split())
    assert "→ name it with --broker" in " ".join(done.stdout.split())
    assert "1 of 2 lines failed: agent." in done.stderr


def test_an_unknown_check_is_a_usage_error(tmp_path: Path) -> None:
    done = agent_command("doctor", "--state", str(tmp_path), "--only", "weather")
    assert done.returncode == 2
    assert "'weather'" in done.stderr


def sign_of(agent: AgentProcess) -> str:
    file = agent.state / "agent.json"
    return file.read_text() if file.exists() else ""
