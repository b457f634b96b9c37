import contextlib
import queue
import socket
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub import broker as module
from hub.broker import Broker, BrokerError, Kind, find_mosquitto, start_broker

KINDS = [
    pytest.param(
        "mosquitto",
        marks=[
            pytest.mark.broker,
            pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
        ],
    ),
    "amqtt",
]


@contextlib.contextmanager
def running(folder: Path, kind: Kind | None = None, port: int = 0) -> Iterator[Broker]:
    broker = start_broker(folder, kind=kind, port=port)
    try:
        yield broker
    finally:
        broker.stop()


def port_of(broker: Broker) -> int:
    return int(broker.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_started_broker_carries_a_message_and_stops_by_its_id(tmp_path: Path, kind: Kind) -> None:
    heard: queue.Queue[bytes] = queue.Queue()
    ready: queue.Queue[int] = queue.Queue()
    with running(tmp_path / "state with a space", kind) as broker:
        assert broker.kind == kind
        assert psutil.pid_exists(broker.pid)
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="tester")
        client.on_message = lambda _client, _data, message: heard.put(bytes(message.payload))
        client.on_subscribe = lambda *_: ready.put(1)
        client.connect("127.0.0.1", port_of(broker))
        client.loop_start()
        try:
            client.subscribe("a/b", qos=1)
            ready.get(timeout=10)
            client.publish("a/b", b"hello", qos=1)
            assert heard.get(timeout=10) == b"hello"
        finally:
            client.disconnect()
            client.loop_stop()

    assert not broker.running
    assert not psutil.pid_exists(broker.pid)
    assert not module.accepts_clients(port_of(broker))
    broker.stop()  # a second time does nothing


@pytest.mark.parametrize("kind", KINDS)
def test_only_loopback_is_bound(tmp_path: Path, kind: Kind) -> None:
    with running(tmp_path, kind) as broker:
        bound = {c.laddr.ip for c in psutil.Process(broker.pid).net_connections("tcp")}

    assert bound == {"127.0.0.1"}


@pytest.mark.broker
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
@pytest.mark.parametrize(("wanted", "kept"), [(None, "8388608"), ("4096", "4096")])
def test_mosquitto_keeps_the_memory_of_a_few_chunks_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None, kept: str
) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    if wanted is not None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", wanted)
    with running(tmp_path, "mosquitto") as broker:
        # As mallopt(3) spells it.
        assert psutil.Process(broker.pid).environ()["MALLOC_TRIM_THRESHOLD_"] == kept


def test_a_taken_port_is_named_and_left_alone(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(BrokerError, match=f"port {port} .* is taken"):
            start_broker(tmp_path, port=port)


def test_a_broker_whose_owner_was_killed_makes_way_on_the_same_port(tmp_path: Path) -> None:
    left = start_broker(tmp_path, kind="amqtt")
    try:
        with running(tmp_path, port=port_of(left)) as fresh:
            assert not left.running
            assert fresh.url == left.url
    finally:
        left.stop()


def test_a_process_id_that_is_another_programs_now_is_left_alone(tmp_path: Path) -> None:
    own = psutil.Process().pid
    (tmp_path / "broker.pid").write_text(f"{own}\n")

    with running(tmp_path, "amqtt") as broker:
        assert (tmp_path / "broker.pid").read_text() == f"{broker.pid}\n"


def test_a_broker_that_ends_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "mosquitto"
    script.write_text("#!/bin/sh\necho 'unknown option in line 3'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(module, "find_mosquitto", lambda: str(script))

    with pytest.raises(BrokerError, match=r"ended at once.*unknown option in line 3"):
        start_broker(tmp_path / "state")


def test_a_port_that_answers_otherwise_is_no_broker() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        assert not module.accepts_clients(other.getsockname()[1], timeout_s=0.05)


def test_without_any_broker_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_mosquitto", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(BrokerError, match="apt-get install mosquitto"):
        start_broker(tmp_path)


def test_mosquitto_keeps_roots_identity_only_when_root() -> None:
    assert "user root" in module.mosquitto_configuration(1883, as_root=True).splitlines()
    assert "user" not in module.mosquitto_configuration(1883, as_root=False)
    assert "listener 1883 127.0.0.1" in module.mosquitto_configuration(1883, as_root=False)
