"""Frames are spelt here as RFC 791, RFC 9293 and MQTT 3.1.1 do."""

from bench.overheard import Overheard, Share, shares

DEVICE, BRIDGE = b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x01"
TOPIC = "lorikeet/v1/bench/d/one/up/req/take"


def frame(data: bytes, sequence: int, *, up: bool = True, syn: bool = False, port: int = 1883):
    ends = (b"\x0a\0\0\x02", b"\x0a\0\0\x01")
    ports = (50_000).to_bytes(2, "big"), port.to_bytes(2, "big")
    macs = (DEVICE, BRIDGE)
    if not up:
        ends, ports, macs = ends[::-1], ports[::-1], macs[::-1]
    tcp = ports[0] + ports[1] + sequence.to_bytes(4, "big") + bytes(4)
    tcp += bytes([5 << 4, 2 if syn else 16]) + bytes(6)
    size = (20 + len(tcp) + len(data)).to_bytes(2, "big")
    ip = b"\x45\0" + size + bytes(5) + b"\x06\0\0" + ends[0] + ends[1]
    return macs[1] + macs[0] + b"\x08\0" + ip + tcp + data


def publish(payload: bytes, *, topic: str = TOPIC, qos: int = 0) -> bytes:
    name = topic.encode()
    rest = len(name).to_bytes(2, "big") + name + (b"\0\7" if qos else b"") + payload
    return bytes([0x30 | qos << 1, len(rest)]) + rest


def heard(*frames: bytes) -> dict[str, Share]:
    one = Overheard(DEVICE)
    for number, each in enumerate(frames):
        one.frame(each, float(number))
    return shares(one.heard, up=True, since=0.0, until=1e9)


def test_a_message_is_named_by_its_topic_and_headers_stand_apart() -> None:
    packet = publish(b"{}")
    found = heard(frame(b"", 9, syn=True), frame(packet, 10))
    assert found == {
        "req/take": Share(1, len(packet), 2),
        "TCP: headers of segments with data": Share(1, 54, 0),
        "TCP: bare acknowledgements": Share(1, 54, 0),
    }


def test_a_message_may_come_in_pieces_out_of_order_and_twice() -> None:
    packet = publish(b"x" * 60, qos=1)
    first, second, third = packet[:20], packet[20:50], packet[50:]
    found = heard(
        frame(b"", 9, syn=True),
        frame(first, 10),
        frame(third, 60),
        frame(second, 30),
        frame(second, 30),
    )
    assert found["req/take"] == Share(1, len(packet), 60)
    assert found["TCP: sent again"] == Share(1, 30, 0)
    assert found["TCP: headers of segments with data"].count == 4


def test_sequence_numbers_go_round() -> None:
    packet = publish(b"{}")
    at = 2**32 - 5
    found = heard(frame(b"", at - 1, syn=True), frame(packet[:9], at), frame(packet[9:], 4))
    assert found["req/take"].count == 1


def test_replies_are_told_apart_and_other_packets_have_their_names() -> None:
    topic = "lorikeet/v1/bench/d/one/down/res"
    packets = publish(b'{"type":"accepted"}', topic=topic) + b"\x40\x02\0\7" + b"\xd0\0"
    packets += publish(b"abc", topic="lorikeet-data/v1/bench/job/j/slice/lora-0")
    found = heard(frame(packets, 1))
    assert found["res accepted"].payload_bytes == 19
    assert found["MQTT: puback"].size_bytes == 4
    assert found["MQTT: ping"].size_bytes == 2
    assert found["chunk slice/lora-0"].payload_bytes == 3


def test_all_bytes_of_a_frame_are_counted_once() -> None:
    frames = [frame(publish(b"{}") + b"\xc0\0", 1), frame(b"GET", 1, port=8080), b"\xff" * 60]
    assert sum(one.size_bytes for one in heard(*frames).values()) == sum(map(len, frames[:2]))


def test_ways_and_times_are_kept_apart() -> None:
    one = Overheard(DEVICE)
    one.frame(frame(publish(b"{}"), 1), 5.0)
    one.frame(frame(b"\x40\x02\0\7", 1, up=False), 6.0)
    assert list(shares(one.heard, up=False, since=0, until=9)) == [
        "TCP: headers of segments with data", "MQTT: puback",
    ]  # fmt: skip
    assert shares(one.heard, up=True, since=6, until=9) == {}
