"""paho's traps (design, section 5), each with what keeps the link out of it.

The others: a message above the broker's packet size (`test_link_limits.py`), frames that a thin
WebSocket cuts (`test_link_transports.py`), what amqtt makes of retained messages
(`test_link_amqtt.py`).
"""

import logging
import os
import queue
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

import wire.link
from edge_agent.agent import Supervisor
from edge_agent.task_run import Settings
from tests.conftest import Mosquitto
from tests.packet_tap import PUBACK, PUBLISH, PacketTap
from tests.system.hub_process import poll
from tests.wire.links import await_event, break_off, connected
from wire.broker_settings import BrokerSettings
from wire.link import Connected, Disconnected, Link, Received
from wire.outbox import MAX_QUEUED

ROOT = Path(__file__).parents[2]


@contextmanager
def frozen(broker: Mosquitto) -> Iterator[None]:
    """Stop a broker's process for a while: it takes what its buffers hold, and answers nothing."""
    assert broker._process is not None
    os.kill(broker._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker._process.pid, signal.SIGCONT)


@pytest.mark.broker
def test_the_window_can_not_be_changed_once_connected_so_it_is_set_before(broker: Any) -> None:
    settings = BrokerSettings(url=broker.url, profile="hivemq")
    with connected(settings) as (link, _):
        assert link._connection is not None
        client = link._connection.client
        assert client.max_inflight_messages == 10
        with pytest.raises(RuntimeError, match="not supported"):
            client.max_inflight_messages = 5


@pytest.mark.broker
def test_the_queue_is_bounded_while_a_broker_acknowledges_nothing(broker: Any) -> None:
    # paho's own queue has no bound unless one is set, before it connects.
    with connected(broker.url, "t") as (link, inbox):
        with frozen(broker):
            taken = sum(link.publish("t", b"x") for _ in range(MAX_QUEUED + 200))
            assert taken == MAX_QUEUED
            assert link.in_flight == MAX_QUEUED
        for _ in range(MAX_QUEUED):
            await_event(inbox, Received)
        poll("room again", lambda: link.publish("t", b"y"))


@pytest.mark.broker
def test_an_exception_in_a_callback_does_not_end_the_network_thread_and_is_logged(
    broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inbox: queue.Queue[Any] = queue.Queue()

    def deliver(event: Any) -> None:
        inbox.put(event)
        if isinstance(event, Received) and event.payload == b"bad":
            raise RuntimeError("a mistake of ours")

    link = Link(broker.url, "one", deliver)
    link.subscribe("t")
    link.start()
    await_event(inbox, Connected)
    link.publish("t", b"bad")
    await_event(inbox, Received)
    link.publish("t", b"good")
    assert await_event(inbox, Received).payload == b"good"
    link.stop()
    assert "a mistake of ours" in caplog.text


@pytest.mark.broker
def test_a_mistake_in_the_links_own_callbacks_is_logged_too(
    broker: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # paho says so to its logger only, and has none unless it is given one.
    monkeypatch.setattr(wire.link.Link, "_on_message", lambda *_: 1 / 0)
    with connected(broker.url, "t") as (link, _):
        link.publish("t", b"1")
        poll("the error", lambda: caplog.records)
        assert link.connected
    assert "division by zero" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.broker
def test_what_arrives_is_acknowledged_before_it_is_handled_and_that_promises_nothing(
    broker: Any,
) -> None:
    # manual_ack isn't needed: `Accepted` is the acknowledgement of what must not be lost, and it
    # is sent after fsync (tests/hub). A message that is lost after its PUBACK is asked for again.
    def deliver(event: Any) -> None:
        if isinstance(event, Received):
            raise RuntimeError("lost")

    with PacketTap(broker.port) as tap:
        link = Link(tap.url, "one", deliver)
        link.subscribe("t")
        link.start()
        poll("the connection", lambda: link.connected)
        assert link.publish("t", b"1")
        poll("the acknowledgement", lambda: tap.packets(PUBACK, up=True))
        link.stop()


@pytest.mark.broker
def test_what_was_in_flight_when_a_connection_broke_is_not_sent_again(broker: Any) -> None:
    # paho would repeat its whole queue, 32 MB of chunks, after each cut; senders resume by
    # themselves, with what is missing.
    with PacketTap(broker.port) as tap, connected(tap.url, "t") as (link, inbox):
        with frozen(broker):
            for number in range(30):
                assert link.publish("t", str(number).encode())
            poll("a window to leave", lambda: len(tap.packets(PUBLISH, up=True)) == 20)
            break_off(link)
            await_event(inbox, Disconnected)
        await_event(inbox, Connected)
        assert link.in_flight == 0
        assert link.publish("t", b"new")
        poll("its end", lambda: link.in_flight == 0)
        sent = [one for one in tap.packets(PUBLISH, up=True) if one.connection > 1]
        assert [one.body[-3:] for one in sent] == [b"new"]


@pytest.mark.broker
def test_nothing_waits_for_a_broker_without_a_limit(broker: Any) -> None:
    # wait_for_publish() without a timeout waits for ever if the connection is never made again.
    with connected(broker.url) as (link, _), frozen(broker):
        assert link.publish("t", b"1")
        link.stop(timeout_s=0.1)
    sources = [
        *ROOT.glob("wire/**/*.py"),
        *ROOT.glob("hub/**/*.py"),
        *ROOT.glob("edge_agent/**/*.py"),
    ]
    callers = [one.name for one in sources if re.search(r"wait_for_publish\(", one.read_text())]
    assert callers == []


@pytest.mark.broker
def test_two_live_sessions_of_one_client_id_evict_each_other(broker: Any) -> None:
    with connected(broker.url, client_id="same") as (first, inbox):
        with connected(broker.url, client_id="same"):
            await_event(inbox, Disconnected)
        poll("the first again", lambda: first.connected)


def test_so_a_devices_client_id_is_new_at_each_start(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("a line of text\n" * 100)
    ids = set()
    for _ in range(2):
        settings = Settings(
            broker="mqtt://127.0.0.1:9", fleet="f", device="ward",
            data=[str(tmp_path / "my.txt")], state_folder=str(tmp_path / "state"),
        )  # fmt: skip
        ids.add(Supervisor(settings).link._client_id)
    assert len(ids) == 2
    assert all(re.fullmatch(r"ward-[0-9a-f]{12}", one) for one in ids)


def test_a_queued_qos_0_message_is_not_counted_as_an_acknowledgement(broker: Any) -> None:
    # paho calls on_publish for QoS 0 as well, once it is written.
    with connected(broker.url, "t") as (link, inbox):
        for _ in range(10):
            assert link.publish("t", b"0", 0)
            await_event(inbox, Received)
        with frozen(broker):
            assert link.publish("t", b"1", 1)
            assert link.in_flight >= 1


def test_paho_has_what_this_file_relies_on() -> None:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    assert client.suppress_exceptions is False
    assert client.max_queued_messages == 0
