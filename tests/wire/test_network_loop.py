"""What the link's own loop does on a real connection; transports are in test_link_transports."""

import contextlib
import hashlib
import logging
import socket
import threading
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.wire.links import await_event, connected
from wire.broker_settings import BrokerSettings
from wire.link import Link, Received
from wire.network_loop import FedClient, NetworkLoop

pytestmark = pytest.mark.broker


def test_what_many_threads_publish_at_a_time_arrives_whole_and_in_each_ones_order(
    broker: Any,
) -> None:
    # Each writes to the socket himself: a packet cut by another would end the connection.
    threads, each = 4, 25
    with (
        connected(broker.url, "t/#", client_id="reader") as (_, inbox),
        connected(broker.url, client_id="writer") as (link, _),
    ):

        def publish(number: int, link: Link) -> None:
            for index in range(each):
                content = bytes([number, index]) * 32_768
                assert link.publish(f"t/{number}", content, index % 2)

        writers = [threading.Thread(target=publish, args=(n, link)) for n in range(threads)]
        for writer in writers:
            writer.start()
        seen: dict[str, list[int]] = {}
        for _ in range(threads * each):
            received = await_event(inbox, Received)
            number, index = received.payload[:2]
            assert received.topic == f"t/{number}"
            whole = hashlib.sha256(bytes([number, index]) * 32_768).digest()
            assert hashlib.sha256(received.payload).digest() == whole
            # A message at QoS 0 may overtake those that wait for an acknowledgement.
            seen.setdefault(f"{number}, QoS {index % 2}", []).append(index)
        for writer in writers:
            writer.join()
    assert all(order == sorted(order) for order in seen.values())
    assert sum(map(len, seen.values())) == threads * each


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_that_is_too_long_neither_ends_the_connection_nor_stops_it(
    broker: Any, caplog: pytest.LogCaptureFixture, qos: int
) -> None:
    # In MQTT 3.1.1 a broker can't be told what we take; it stops after 20 without an answer.
    with connected(BrokerSettings(url=broker.url, protocol="mqtt-3.1.1"), "t") as (link, inbox):
        enemy = mqtt.Client(CallbackAPIVersion.VERSION2)
        enemy.connect("127.0.0.1", broker.port)
        enemy.loop_start()
        for _ in range(30):
            enemy.publish("t", bytes(200_000), qos).wait_for_publish(20.0)
        enemy.publish("t", b"short", qos)
        assert await_event(inbox, Received).payload == b"short"
        assert link.connected
        enemy.disconnect()
        enemy.loop_stop()
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "messages above 132096 bytes are passed over" in lines[0]


class Clock:
    """A time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire:
    """A client under the loop, and the broker's end of its connection in the test's hands.

    Needs no broker; the whole file is marked for the others' sake.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keepalive_s: int, published: Any) -> None:
        self.clock = Clock()
        monkeypatch.setattr("paho.mqtt.client.time_func", self.clock)
        monkeypatch.setattr("wire.network_loop.time", SimpleNamespace(monotonic=self.clock))
        listening = socket.create_server(("127.0.0.1", 0))
        self.client = FedClient(
            CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311, reconnect_on_failure=False
        )
        self.client.on_socket_register_write = lambda *_: None
        self.client.connect("127.0.0.1", listening.getsockname()[1], keepalive_s)
        self.broker, _ = listening.accept()
        listening.close()
        self.broker.sendall(b"\x20\x02\x00\x00")  # CONNACK
        self.loop = NetworkLoop(
            self.client, 100_000, mqtt5=False, arrived=lambda _count: None, published=published,
            passed_over=lambda _size: None, handled=lambda: None,
        )  # fmt: skip

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.loop.turn(0.1)
        self.loop.close()
        self.broker.close()

    def sent(self) -> bytes:
        """Return what the client wrote since the last look."""
        self.broker.setblocking(False)
        found = b""
        with contextlib.suppress(BlockingIOError):
            while block := self.broker.recv(65_536):
                found += block
        return found


def test_a_connection_that_brings_messages_lives_though_the_answer_to_a_ping_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # MQTT 3.1.1, 3.1.2.10: what matters is whether anything comes. The answer waits behind a queue.
    seen: list[Any] = []
    with Wire(monkeypatch, 2, seen.append) as wire:
        for second in range(30):
            wire.broker.sendall(b"\x30\x05\x00\x01thi")
            while len(seen) <= second:
                assert wire.loop.turn(1.0)
            wire.clock.now += 1.0
            wire.client.queue((wire.client.head(b"u", 1), b"y"))
            assert wire.loop.turn(0.0), f"given up after {second} s"


def test_a_silent_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with Wire(monkeypatch, 2, lambda _message: None) as wire:
        while b"\xc0\x00" not in wire.sent():  # PINGREQ
            wire.clock.now += 1.0
            assert wire.loop.turn(0.05)
        lived = 0
        while wire.loop.turn(0.05):
            wire.clock.now += 1.0
            lived += 1
        assert lived <= 4


def test_acknowledgements_leave_while_a_slow_receiver_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acknowledged: list[int] = []

    def slow(_message: Any) -> None:
        wire.clock.now += 0.3
        acknowledged.append(wire.sent().count(b"\x40\x02"))

    with Wire(monkeypatch, 50, slow) as wire:
        wire.broker.sendall(
            b"".join(b"\x32\x07\x00\x01t" + bytes([0, n]) + b"hi" for n in range(1, 41))
        )
        while len(acknowledged) < 40:
            assert wire.loop.turn(1.0)
        # 12 s went by: acknowledgements left each second or so, not all of them at the end.
        assert sum(1 for count in acknowledged if count) >= 8


def test_what_the_socket_does_not_take_leaves_first_and_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = [300_000] * 40  # more than a connection holds
    with Wire(monkeypatch, 50, lambda _message: None) as wire:
        while wire.client.want_write() or not wire.client.is_connected():
            assert wire.loop.turn(0.1)
        before = wire.sent()
        parts = [
            part
            for number, size in enumerate(sizes)
            for part in (wire.client.head(b"t", size), bytes([number]) * size)
        ]
        writer = threading.Thread(target=wire.loop.write, args=(parts,))
        writer.start()
        writer.join(10.0)
        assert wire.client.want_write()  # so some of it waits
        wire.client.queue((b"\xc0\x00",))  # another thread's packet meanwhile
        received = b""
        while wire.client.want_write():
            received += wire.sent()
            assert wire.loop.turn(0.1)
        received += wire.sent()
        assert before.startswith(b"\x10")  # CONNECT
        assert received == b"".join(parts) + b"\xc0\x00"
