"""The link and a real amqtt: it has no MQTT 5, and peculiar ideas of retained messages."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

import wire.connection
from edge_agent.failures import Failures
from edge_agent.jobs import KnownJobs
from hub.broker import Broker, start_broker
from tests.packet_tap import CONNECT, PacketTap
from tests.system.hub_process import poll
from tests.wire.links import await_event, connected
from wire.broker_settings import BrokerSettings
from wire.link import Connected, Disconnected, Received
from wire.messages import BaseRef, JobKnobs, ModelShape, RoundAnnounce, encode, parse
from wire.topics import Topics


@pytest.fixture(scope="module")
def amqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = start_broker(tmp_path_factory.mktemp("amqtt"), kind="amqtt")
    yield broker
    broker.stop()


def port_of(broker: Broker) -> int:
    return int(broker.url.rsplit(":", 1)[1])


def test_its_silence_to_mqtt_5_is_answered_with_3_1_1_which_is_remembered(
    amqtt: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wire.link")
    monkeypatch.setitem(wire.connection._CONNACK_S, "5", 0.3)
    with PacketTap(port_of(amqtt)) as tap:
        with connected(tap.url, "t") as (link, inbox):
            assert link.protocol == "3.1.1"
            assert link.publish("t", b"1")
            assert await_event(inbox, Received).payload == b"1"
            tap.cut()
            await_event(inbox, Disconnected)
            await_event(inbox, Connected)
        assert [one.body[6] for one in tap.packets(CONNECT)] == [5, 4, 4]
    said = [one.getMessage() for one in caplog.records]
    assert [one for one in said if "MQTT" in one] == [
        f"broker 127.0.0.1:{tap.port} speaks MQTT 3.1.1"
    ]


def test_with_its_profile_mqtt_5_is_not_even_tried(amqtt: Broker) -> None:
    with PacketTap(port_of(amqtt)) as tap:
        with connected(BrokerSettings(url=tap.url, profile="amqtt")) as (link, _):
            assert link.protocol == "3.1.1"
        assert [one.body[6] for one in tap.packets(CONNECT)] == [4]


def announcement() -> RoundAnnounce:
    shape = ModelShape(
        model_type="llama", hidden_size=8, layers=1, mlp_size=8, heads=1, kv_heads=1, head_dim=8,
        vocab_size=8, tied_embeddings=True, parameters=100, weight_bytes=4,
    )  # fmt: skip
    knobs = JobKnobs(
        method="lora", rank=2, min_rank=2, batch=1, min_batch=1, seq_len=8, min_seq_len=8
    )
    base = BaseRef(name="base", digest="0" * 64, size_bytes=400, shape=shape)
    return RoundAnnounce(job="j", round=0, rounds=1, phase="open", ts=0.0, knobs=knobs, base=base)


def test_a_retained_message_that_comes_twice_is_learnt_once(amqtt: Broker, tmp_path: Path) -> None:
    # It comes once for each subscription that fits, where mosquitto sends it once.
    topics, announce = Topics("f"), announcement()
    settings = BrokerSettings(url=amqtt.url, profile="amqtt")
    with connected(settings, client_id="hub") as (hub, _):
        assert hub.publish(topics.job_round("j"), encode(announce), 1, retain=True)
        poll("the broker", lambda: hub.in_flight == 0)
    names = (topics.job_round(), topics.job_round("j"))
    with connected(settings, *names, client_id="ward") as (_, inbox):
        both = [await_event(inbox, Received) for _ in range(2)]
    assert both[0] == both[1]
    known = KnownJobs(Failures(tmp_path / "failures.json", 10**9), tmp_path)
    learnt: list[Any] = []
    for one in both:
        route = topics.parse(one.topic)
        assert route is not None
        message = parse(route, one.payload)
        assert isinstance(message, RoundAnnounce)
        learnt.append(known.learn(message))
    assert learnt == [True, False]


def test_topics_that_nobody_asked_for_are_passed_over(amqtt: Broker) -> None:
    settings = BrokerSettings(url=amqtt.url, profile="amqtt")
    with connected(settings, "others/#", client_id="other") as (link, inbox):
        assert link.publish("others/a", b"kept", 1, retain=True)
        await_event(inbox, Received)
    # The trap: once there was a session that isn't clean, of a client with other topics ...
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="old", clean_session=False)
    ready: list[int] = []
    client.on_subscribe = lambda *_: ready.append(1)
    client.connect("127.0.0.1", port_of(amqtt))
    client.loop_start()
    client.subscribe("mine/a", 1)
    poll("the subscription", lambda: ready)
    client.disconnect()
    client.loop_stop()
    # ... amqtt 0.12.1 sends what others had subscribed to, even to those who ask for a clean
    # session. So nothing relies on getting only what it asked for: topics are checked.
    topics = Topics("f")
    for client_id in ("old", "new-6f1a"):
        with connected(settings, topics.reply("ward"), client_id=client_id) as (link, inbox):
            assert link.publish(topics.reply("ward"), b"1")
            received = await_event(inbox, Received)
            while received.topic != topics.reply("ward"):
                route = topics.parse(received.topic)
                assert route is None or route.kind == "job_round"
                received = await_event(inbox, Received)
            assert received.payload == b"1"
