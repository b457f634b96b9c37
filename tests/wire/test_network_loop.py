"""What the link's own loop does on a real connection; transports are in test_link_transports."""

import hashlib
import logging
import threading
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.wire.links import await_event, connected
from wire.broker_settings import BrokerSettings
from wire.link import Link, Received

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
