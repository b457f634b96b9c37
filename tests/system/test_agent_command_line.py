"""What ``lorikeet-agent run`` says to options and files that it can't use, and to a broker away."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Mosquitto
from tests.system.agent_base import write_data
from tests.system.agent_process import AgentProcess, agent_command
from tests.system.hub_process import poll
from tests.system.wiretap import Wiretap
from wire.messages import Hello

NOBODY = "mqtt://127.0.0.1:9"
MARKER = "Zyxomancer-47-Quillwort"


def refused(
    folder: Path, *words: str, data: Path, broker: str = NOBODY, statuses: tuple[int, ...] = (2,)
) -> str:
    """Run an agent that must end by itself; return its last words."""
    done = agent_command(
        "run", "--broker", broker, "--data", str(data), "--state", str(folder / "state"),
        "--id", "one", *words,
    )  # fmt: skip
    assert done.returncode in statuses, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return " ".join(done.stderr.split())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "private" / "my.jsonl", marker=MARKER)


def test_a_data_file_that_is_not_there(tmp_path: Path) -> None:
    said = refused(tmp_path, data=tmp_path / "absent.jsonl")
    assert "--data" in said
    assert str(tmp_path / "absent.jsonl") in said


def test_data_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(f"{MARKER},1\n")
    said = refused(tmp_path, data=tmp_path / "my.csv")
    assert ".jsonl" in said
    assert MARKER not in said


def test_data_with_broken_lines_only(tmp_path: Path) -> None:
    data = write_data(tmp_path / "my.jsonl", marker=MARKER, examples=0, broken=4)
    data.write_text(data.read_text().lstrip("\n"))
    said = refused(tmp_path, data=data)
    assert "no usable example" in said
    assert "4 broken lines" in said
    assert MARKER not in said


@pytest.mark.parametrize("memory", ["much", "-5MB", "0", "5 parsecs", "nan", "1e400"])
def test_a_memory_limit_that_is_no_size(tmp_path: Path, data: Path, memory: str) -> None:
    said = refused(tmp_path, f"--memory={memory}", data=data)
    assert "--memory" in said
    assert memory in said
    assert "700MB" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:1883", "mqtt://", "mqtt://127.0.0.1:99999"])
def test_a_broker_that_is_no_address(tmp_path: Path, data: Path, url: str) -> None:
    said = refused(tmp_path, data=data, broker=url, statuses=(2,))
    assert url in said
    assert "mqtt://host:port" in said


@pytest.mark.parametrize(("option", "value"), [("--id", "a/b"), ("--fleet", "#")])
def test_a_name_that_can_not_stand_in_a_topic(
    tmp_path: Path, data: Path, option: str, value: str
) -> None:
    said = refused(tmp_path, option, value, data=data, statuses=(2,))
    assert value in said


@pytest.mark.broker
@pytest.mark.slow
def test_a_broker_that_is_away_is_said_once_and_tried_again(tmp_path: Path, data: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Mosquitto(tmp_path / "broker")
    agent = AgentProcess(tmp_path / "agent", broker.url, "patient", data)
    with agent:
        agent.await_log("is away")
        with dropping(broker.port) as attempts:
            poll("two more attempts", lambda: len(attempts) >= 2, 60)
        broker.start()
        try:
            with Wiretap(broker.url) as tap:
                tap.await_message(Hello, "patient")
                assert agent.log.count("is away") == 1
                assert f"127.0.0.1:{broker.port} is away" in agent.log
                assert agent.log.count("is back") == 1
                assert agent.children == []
                os.kill(agent.pid, signal.SIGTERM)
                assert agent.wait(15) == 0
        finally:
            broker.kill()


def test_a_second_agent_in_one_state_folder(tmp_path: Path, data: Path) -> None:
    with AgentProcess(tmp_path / "agent", NOBODY, "one", data) as agent:
        agent.await_log("is away")
        done = agent_command(
            "run", "--broker", NOBODY, "--data", str(data), "--state", str(agent.state)
        )
        assert done.returncode == 1
        assert str(agent.state) in done.stderr
        assert agent.running


@contextmanager
def dropping(port: int) -> Iterator[list[int]]:
    """Listen as a broker that is still starting: every connection is closed at once."""
    attempts: list[int] = []
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            attempts.append(address[1])
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield attempts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
