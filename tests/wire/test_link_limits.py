"""The link keeps to what a real broker says of itself, and to a profile; a tap sees the packets."""

import queue
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mosquitto
from tests.packet_tap import CONNECT, PUBACK, PUBLISH, SUBSCRIBE, Packet, PacketTap
from tests.system.hub_process import poll
from tests.wire.links import await_event, connected
from wire.broker_settings import BrokerSettings, Protocol
from wire.errors import TooLargeError
from wire.link import Connected, Disconnected, Link, Received, Will

pytestmark = pytest.mark.broker

PASSWD = shutil.which("mosquitto_passwd")
VERSIONS: list[Protocol] = ["mqtt-5", "mqtt-3.1.1"]


@contextmanager
def tapped(folder: Path, extra: str = "") -> Iterator[PacketTap]:
    """Give a tap before a mosquitto with these lines in its configuration."""
    folder.mkdir(exist_ok=True)
    broker = Mosquitto(folder, extra)
    broker.start()
    try:
        with PacketTap(broker.port) as tap:
            yield tap
    finally:
        broker.kill()


def greatest_in_flight(tap: PacketTap) -> int:
    """Return how many messages with QoS 1 were unacknowledged at a time, seen from the tap."""
    open_: set[tuple[int, int]] = set()
    greatest = 0
    for one in tap.packets(PUBLISH, PUBACK):
        name = (one.connection, one.packet_id)
        if one.kind == PUBLISH and one.up and one.qos:
            open_.add(name)
        elif one.kind == PUBACK and not one.up:
            open_.discard(name)
        greatest = max(greatest, len(open_))
    return greatest


def filters(packet: Packet) -> int:
    """Return how many topics a SUBSCRIBE of MQTT 3.1.1 asks for (3.8.3)."""
    rest, count = packet.body[2:], 0
    while rest:
        rest = rest[2 + int.from_bytes(rest[:2], "big") + 1 :]
        count += 1
    return count


def test_a_message_above_the_brokers_packet_size_is_refused_before_it_is_sent(
    tmp_path: Path,
) -> None:
    # The trap: paho sends it, mosquitto drops the connection, and paho connects again for ever.
    with tapped(tmp_path, "max_packet_size 70000\n") as tap:
        with connected(tap.url, "t") as (link, inbox):
            assert link.limits.packet_bytes == 70_000
            with pytest.raises(TooLargeError, match="the broker takes 70000"):
                link.publish("t", bytes(70_000))
            assert link.publish("t", bytes(69_900))
            assert len(await_event(inbox, Received).payload) == 69_900
            assert link.connected
        assert tap.connections == 1


def test_a_broker_that_takes_less_than_a_chunk_is_said_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox: queue.Queue[Any] = queue.Queue()
    with tapped(tmp_path, "max_packet_size 1000\n") as tap:
        link = Link(tap.url, "tester", inbox.put)
        link.start()
        poll("the reason", lambda: caplog.records)
        link.stop()
    assert "packets of at most 1000 bytes, and a chunk needs 66560" in caplog.text
    assert inbox.empty()


def test_no_more_is_in_flight_than_the_broker_receives_at_a_time(tmp_path: Path) -> None:
    with tapped(tmp_path, "max_inflight_messages 3\n") as tap:
        with connected(tap.url, "t") as (link, inbox):
            assert link.limits.in_flight == 3
            for number in range(60):
                assert link.publish("t", str(number).encode() * 500)
            for number in range(60):
                assert await_event(inbox, Received).payload == str(number).encode() * 500
        assert greatest_in_flight(tap) <= 3
        # paho's window can't be changed once it is connected: the second connection has it.
        assert tap.connections == 2


@pytest.mark.parametrize("protocol", VERSIONS)
def test_the_profile_bounds_what_is_in_flight_where_the_broker_says_nothing(
    tmp_path: Path, protocol: Protocol
) -> None:
    with tapped(tmp_path) as tap:
        settings = BrokerSettings(url=tap.url, profile="azure-event-grid", protocol=protocol)
        with connected(settings, "t") as (link, inbox):
            for number in range(20):
                assert link.publish("t", bytes([number]))
            assert [await_event(inbox, Received).payload[0] for _ in range(20)] == [*range(20)]
        assert greatest_in_flight(tap) == 1
        assert tap.connections == 1


def test_a_broker_that_retains_nothing_is_sent_nothing_to_retain_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    will = Will("state", b"lost", 1, True)
    with tapped(tmp_path, "retain_available false\n") as tap:
        with connected(tap.url, "t", will=will) as (link, inbox):
            assert link.publish("t", b"1", retain=True)
            assert await_event(inbox, Received).payload == b"1"
            tap.cut()
            await_event(inbox, Disconnected)
            await_event(inbox, Connected)
        assert not any(one.retain for one in tap.packets(PUBLISH, up=True))
    said = [one.getMessage() for one in caplog.records]
    assert sum("keeps no retained messages" in one for one in said) == 1


def test_a_broker_without_qos_1_gets_all_with_qos_0(tmp_path: Path) -> None:
    with tapped(tmp_path, "max_qos 0\n") as tap:
        will = Will("state", b"lost", 1, False)
        with connected(tap.url, "t", will=will) as (link, inbox):
            assert link.publish("t", b"1", 1)
            assert await_event(inbox, Received).payload == b"1"
            poll("nothing in flight", lambda: link.in_flight == 0)
        assert {one.qos for one in tap.packets(PUBLISH, up=True)} == {0}


def test_the_brokers_keep_alive_is_kept_to(tmp_path: Path) -> None:
    with (
        tapped(tmp_path, "max_keepalive 20\n") as tap,
        connected(BrokerSettings(url=tap.url, protocol="mqtt-5")) as (link, _),
    ):
        assert link._connection is not None
        assert link._connection.client.keepalive == 20


@pytest.mark.parametrize("protocol", VERSIONS)
def test_a_clean_session_and_a_keep_alive_within_90_seconds_are_asked_for(
    tmp_path: Path, protocol: Protocol
) -> None:
    with tapped(tmp_path) as tap:
        with connected(BrokerSettings(url=tap.url, protocol=protocol)):
            pass
        body = tap.packets(CONNECT)[0].body  # 3.1.2: name, level, flags, keep alive
    assert body[:7] == b"\x00\x04MQTT" + (b"\x05" if protocol == "mqtt-5" else b"\x04")
    assert body[7] & 2
    assert 1.5 * int.from_bytes(body[8:10], "big") <= 90 - 10


def test_subscriptions_are_cut_to_the_brokers_packets_and_counted(tmp_path: Path) -> None:
    with tapped(tmp_path) as tap:
        settings = BrokerSettings(url=tap.url, profile="aws-iot", protocol="mqtt-3.1.1")
        topics = [f"t/{number}" for number in range(20)]
        with connected(settings, *topics) as (link, inbox):
            for topic in topics:
                assert link.publish(topic, b"1")
            assert {await_event(inbox, Received).topic for _ in topics} == set(topics)
            for number in range(30):
                link.subscribe(f"more/{number}")
            with pytest.raises(TooLargeError, match="at most 50"):
                link.subscribe("one/more")
            with pytest.raises(TooLargeError, match="8 slashes; at most 7"):
                link.subscribe("a/b/c/d/e/f/g/h/#")
        assert [filters(one) for one in tap.packets(SUBSCRIBE)][:3] == [8, 8, 4]


def test_what_exceeds_a_services_rate_waits_and_is_not_lost(tmp_path: Path) -> None:
    with tapped(tmp_path) as tap:
        settings = BrokerSettings(url=tap.url, profile="aws-iot")
        with connected(settings, "t") as (link, inbox):
            for number in range(150):
                assert link.publish("t", str(number).encode(), number % 2)
            poll("some to wait", lambda: link.in_flight > 20)
            got = [await_event(inbox, Received).payload for _ in range(150)]
            assert sorted(got, key=int) == [str(number).encode() for number in range(150)]
            poll("all to be acknowledged", lambda: link.in_flight == 0)
        # Jitter between link and tap is far below the half second by which 101 would be late.
        times = [one.at for one in tap.packets(PUBLISH, up=True)]
        assert all(late - early > 0.5 for early, late in zip(times, times[100:], strict=False))


def test_a_client_id_beyond_the_profile_is_refused() -> None:
    settings = BrokerSettings(url="mqtt://127.0.0.1:9", profile="aws-iot")
    Link(settings, "x" * 128, lambda _: None)
    with pytest.raises(TooLargeError, match="has 129 bytes; at most 128"):
        Link(settings, "x" * 129, lambda _: None)


@pytest.mark.parametrize("protocol", VERSIONS)
def test_bytes_are_counted_as_they_pass(tmp_path: Path, protocol: Protocol) -> None:
    with tapped(tmp_path) as tap:
        settings = BrokerSettings(url=tap.url, username="ward", protocol=protocol)
        will = Will("state", b"lost", 1, True)
        with connected(settings, "t/#", "u", will=will) as (link, inbox):
            sizes = (0, 1, 100, 127, 128, 16_383, 16_384, 65_564)  # around each length's end
            for qos in (0, 1):
                for size in sizes:
                    assert link.publish("t/a", bytes(size), qos, expiry_s=30 if qos else None)
            for _ in range(2 * len(sizes)):
                await_event(inbox, Received)
            poll("all acknowledgements", lambda: link.in_flight == 0)
            poll("ours", lambda: len(tap.packets(PUBACK, up=True)) == len(sizes))
            assert link.bytes_up == tap.bytes(up=True)
            # mosquitto's CONNACK of MQTT 5 has 7 bytes of properties more.
            assert tap.bytes(up=False) - link.bytes_down == (7 if protocol == "mqtt-5" else 0)


def test_an_expiry_travels_in_mqtt_5(tmp_path: Path) -> None:
    with tapped(tmp_path) as tap:
        with connected(BrokerSettings(url=tap.url, protocol="mqtt-5"), "t") as (link, inbox):
            assert link.publish("t", b"1", expiry_s=30)
            await_event(inbox, Received)
        body = tap.packets(PUBLISH, up=True)[0].body
    # 3.3.2: topic, packet id, 5 bytes of properties: identifier 2 and seconds; the payload
    assert body[:3] + body[5:] == b"\x00\x01t" + b"\x05\x02\x00\x00\x00\x1e" + b"1"


@pytest.mark.skipif(PASSWD is None, reason="mosquitto_passwd is not on PATH")
@pytest.mark.parametrize("protocol", VERSIONS)
def test_a_wrong_password_is_named_and_a_right_one_let_in(
    tmp_path: Path, protocol: Protocol, caplog: pytest.LogCaptureFixture
) -> None:
    known = tmp_path / "known"
    subprocess.run([str(PASSWD), "-b", "-c", str(known), "ward", "p@ss:w/rd"], check=True)
    password = tmp_path / "password"
    password.write_text("wrong\n")
    extra = f"allow_anonymous false\npassword_file {known}\n"
    with tapped(tmp_path / "broker", extra) as tap:
        settings = BrokerSettings(
            url=tap.url, username="ward", password_file=str(password), protocol=protocol
        )
        link = Link(settings, "tester", lambda _: None)
        link.start()
        poll("the reason", lambda: caplog.records)
        said = caplog.records[0].getMessage()
        assert "it refused the connection" in said
        assert "check username and password_file" in said
        password.write_text("p@ss:w/rd\n")  # read again at the next attempt
        poll("the connection", lambda: link.connected)
        link.stop()
    assert "w/rd" not in caplog.text


def test_a_refused_message_is_named_once_also_after_a_reconnect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # mosquitto 2.0.11 answers it in MQTT 5 (reason 135), and then drops the connection.
    (tmp_path / "acl").write_text("topic readwrite mine/#\n")
    extra = f"acl_file {tmp_path / 'acl'}\n"
    with tapped(tmp_path / "broker", extra) as tap:
        settings = BrokerSettings(url=tap.url, protocol="mqtt-5")
        with connected(settings) as (link, inbox):
            for number in range(2):
                assert link.publish("others/state", str(number).encode())
                await_event(inbox, Disconnected)
                await_event(inbox, Connected)
    said = [one.getMessage() for one in caplog.records if "refuses" in one.getMessage()]
    assert len(said) == 1
    assert "the broker refuses others/state: Not authorized" in said[0]
