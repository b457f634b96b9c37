"""The link against a real broker: reconnects, bounds, wills."""

import logging
import queue
from typing import Any

import pytest

from tests.wire.links import await_event, break_off
from wire.broker_settings import BrokerSettings
from wire.errors import TooLargeError
from wire.link import MAX_PAYLOAD_BYTES, Connected, Disconnected, Link, Received, Will


def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    link = Link("mqtt://127.0.0.1:9", "x", lambda _event: None)
    with pytest.raises(TooLargeError):
        link.publish("a", bytes(MAX_PAYLOAD_BYTES + 1))


def test_nothing_is_kept_for_a_broker_that_is_away() -> None:
    link = Link("mqtt://127.0.0.1:9", "x", lambda _event: None)
    assert not link.publish("a", b"1")


@pytest.mark.broker
def test_messages_arrive_and_acknowledgements_are_counted(broker: Any) -> None:
    inbox: queue.Queue[Any] = queue.Queue()
    link = Link(broker.url, "one", inbox.put)
    link.subscribe("t/#")
    link.start()
    await_event(inbox, Connected)
    while not link.publish("t/a", b"hello"):
        pass
    received = await_event(inbox, Received)
    assert (received.topic, received.payload) == ("t/a", b"hello")
    link.stop()
    assert link.in_flight == 0


@pytest.mark.broker
def test_it_comes_back_subscribed_after_the_broker_was_killed_and_says_so_once(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wire.link")
    inbox: queue.Queue[Any] = queue.Queue()
    link = Link(broker.url, "one", inbox.put)
    link.subscribe("t/#")
    link.start()
    await_event(inbox, Connected)
    broker.kill()
    await_event(inbox, Disconnected)
    # The second attempt to connect fails for sure before the broker is there again.
    broker.start()
    await_event(inbox, Connected)
    link.publish("t/a", b"again")
    assert await_event(inbox, Received).payload == b"again"
    link.stop()
    assert sum("is away" in record.message for record in caplog.records) == 1
    assert sum("is back" in record.message for record in caplog.records) == 1


@pytest.mark.broker
def test_a_failing_consumer_does_not_end_the_network_thread(broker: Any) -> None:
    inbox: queue.Queue[Any] = queue.Queue()

    def deliver(event: Any) -> None:
        inbox.put(event)
        if isinstance(event, Received) and event.payload == b"bad":
            raise RuntimeError("a mistake in a callback")

    link = Link(broker.url, "one", deliver)
    link.subscribe("t/#")
    link.start()
    await_event(inbox, Connected)
    link.publish("t/a", b"bad")
    await_event(inbox, Received)
    link.publish("t/a", b"good")
    assert await_event(inbox, Received).payload == b"good"
    link.stop()


@pytest.mark.broker
def test_the_will_is_published_when_a_connection_breaks(broker: Any) -> None:
    watched: queue.Queue[Any] = queue.Queue()
    watcher = Link(broker.url, "watcher", watched.put)
    watcher.subscribe("state")
    watcher.start()
    await_event(watched, Connected)
    inbox: queue.Queue[Any] = queue.Queue()
    link = Link(broker.url, "dies", inbox.put, will=Will("state", b"lost", 1, True))
    link.start()
    await_event(inbox, Connected)
    break_off(link)
    assert await_event(watched, Received).payload == b"lost"
    link.stop()
    watcher.stop()


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["mqtt-5", "mqtt-3.1.1"])
def test_an_unsubscribed_topic_stays_so_after_a_reconnect(broker: Any, protocol: Any) -> None:
    inbox: queue.Queue[Any] = queue.Queue()
    link = Link(BrokerSettings(url=broker.url, protocol=protocol), "one", inbox.put)
    link.subscribe("wanted")
    link.subscribe("let-go")
    link.start()
    await_event(inbox, Connected)
    up = link.bytes_up
    link.unsubscribe("let-go")
    link.unsubscribe("never-there")
    # By hand, 3.10: type, length, packet id 2, topic 2 + 6; MQTT 5 has a byte of properties.
    assert link.bytes_up - up == 12 + (protocol == "mqtt-5")
    break_off(link)
    await_event(inbox, Disconnected)
    await_event(inbox, Connected)
    for topic in ("let-go", "wanted"):
        while not link.publish(topic, b"x"):
            pass
    assert await_event(inbox, Received).topic == "wanted"
    assert inbox.empty()
    link.stop()
