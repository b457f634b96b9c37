"""A whole job under the strictest profiles, with every packet that passes looked at."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tests.packet_tap import CONNECT, PUBACK, PUBLISH, SUBSCRIBE, Packet, PacketTap
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text, write_base
from wire.broker_profile import PROFILES, ProfileName
from wire.broker_settings import BrokerSettings
from wire.transfer import CHUNK_BYTES, HEADER_BYTES

pytestmark = pytest.mark.broker


def string(body: bytes, at: int) -> tuple[str, int]:
    """Return a string (MQTT, 1.5.3) and where it ends."""
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    return body[at + 2 : end].decode(), end


def payload_bytes(packet: Packet) -> int:
    """Return the size of a PUBLISH's payload (3.3), of MQTT 5."""
    _, at = string(packet.body, 0)
    at += 2 if packet.qos else 0
    assert packet.body[at] < 128  # properties, their length in one byte
    return len(packet.body) - at - 1 - packet.body[at]


def filters(packet: Packet) -> list[str]:
    """Return the topics of a SUBSCRIBE (3.8) of MQTT 5."""
    at, found = 3 + packet.body[2], []
    while at < len(packet.body):
        topic, at = string(packet.body, at)
        found.append(topic)
        at += 1
    return found


def keepalive_and_id(packet: Packet) -> tuple[int, str]:
    """Return what a CONNECT (3.1) of MQTT 5 asks for, and under which name."""
    body = packet.body
    client_id, _ = string(body, 11 + body[10])
    return int.from_bytes(body[8:10], "big"), client_id


def greatest_in_flight(packets: list[Packet]) -> int:
    open_: set[tuple[int, int]] = set()
    greatest = 0
    for one in packets:
        if one.kind == PUBLISH and one.up and one.qos:
            open_.add((one.connection, one.packet_id))
        elif one.kind == PUBACK and not one.up:
            open_.discard((one.connection, one.packet_id))
        counts = [sum(1 for c, _ in open_ if c == one.connection)]
        greatest = max(greatest, *counts)
    return greatest


@pytest.mark.parametrize("name", ["aws-iot", "azure-event-grid"])
def test_every_packet_of_two_rounds_keeps_to_the_limits_of_every_service(
    name: ProfileName, broker: Any, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", hidden=512)
    with PacketTap(broker.port) as tap:
        folder = tmp_path / "hub"
        folder.mkdir()
        hub = HubProcess(folder, tap.url, f"  profile: {name}\n  protocol: mqtt-5\n")
        fleet = Fleet(BrokerSettings(url=tap.url, profile=name, protocol="mqtt-5"))
        try:
            hub.start()
            fleet.join("j", a=("lora", 2), b=("lora", 4), c=("prompt", 0), d=("infer", 0))
            hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}, codec="raw"))
            detail = fleet.finish(hub, "j")
            assert detail.summary.phase == "done"
            assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("a", "b", "c")]
        finally:
            fleet.close()
            hub.kill9()
        packets = tap.packets()
    sent = [one for one in packets if one.up]
    published = [one for one in sent if one.kind == PUBLISH]
    assert max(payload_bytes(one) for one in published) == CHUNK_BYTES + HEADER_BYTES
    for service, profile in PROFILES.items():
        for one in published:
            size = payload_bytes(one)
            profile.check(one.topic, size, retain=one.retain)
            assert one.size_bytes <= (profile.packet_bytes or 2**28), service
            assert one.qos <= profile.max_qos
        for one in sent:
            if one.kind == SUBSCRIBE:
                assert len(filters(one)) <= (profile.filters or 100)
                for topic in filters(one):
                    profile.check_topic(topic)
            elif one.kind == CONNECT:
                keepalive_s, client_id = keepalive_and_id(one)
                least, most = profile.keepalive_s
                assert least <= keepalive_s <= most
                profile.check_client_id(client_id)
    limits = PROFILES[name]
    assert greatest_in_flight(packets) <= limits.in_flight
    for connection in range(1, tap.connections + 1):
        times = deque(one.at for one in published if one.connection == connection)
        rate = limits.publishes_per_s or 0
        pairs = zip(times, list(times)[rate:], strict=False)
        assert all(late - early > 0.5 for early, late in pairs)
