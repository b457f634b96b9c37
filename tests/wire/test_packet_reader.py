"""Packets are written out by hand after MQTT 3.1.1 and 5.0 (OASIS), sections 2.1, 3.3 and 3.4."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.packet_reader import Acknowledged, Packet, PacketReader, PassedOver, Published

#: "t" at QoS 0, payload "hi": type 3, 5 bytes; the topic's length and name; the payload.
QOS_0 = b"\x30\x05\x00\x01thi"
#: The same at QoS 1, retained, packet 258.
QOS_1 = b"\x33\x07\x00\x01t\x01\x02hi"
PING_ANSWER = b"\xd0\x00"
PUBACK = b"\x40\x02\x01\x02"


def read(
    stream: bytes, *, mqtt5: bool = False, longest: int = 1000, cuts: list[int] | None = None
) -> list[Packet]:
    reader = PacketReader(longest, mqtt5=mqtt5)
    found: list[Packet] = []
    places = {cut % (len(stream) + 1) for cut in cuts or []}
    edges = sorted({0, *places, *range(0, len(stream), 300), len(stream)})
    for first, last in itertools.pairwise(edges):
        reader.room[: last - first] = stream[first:last]
        found += reader.packets(last - first)
    return found


def test_messages_of_3_1_1_are_taken_apart() -> None:
    assert read(QOS_0 + QOS_1) == [
        Published(b"t", b"hi", False, None, None),
        Published(b"t", b"hi", True, 258, None),
    ]


def test_messages_of_mqtt_5_may_have_properties() -> None:
    # A message expiry interval (2) of 60 s: five bytes.
    expiring = b"\x32\x0d\x00\x01t\x01\x02\x05\x02\x00\x00\x00\x3chi"
    assert read(b"\x30\x06\x00\x01t\x00hi" + expiring, mqtt5=True) == [
        Published(b"t", b"hi", False, None, 0),
        Published(b"t", b"hi", False, 258, 5),
    ]


def test_a_message_with_long_properties_is_left_as_it_is() -> None:
    # 128 bytes of properties: their length takes two bytes, 80 01.
    packet = b"\x30\x85\x01\x00\x01t\x80\x01" + bytes(128)
    assert read(packet, mqtt5=True) == [packet]


def test_acknowledgements_without_a_complaint_are_taken_apart() -> None:
    # 0x10: nobody listens, which is no failure; 0x87: not authorised.
    refused = b"\x40\x03\x01\x02\x87"
    assert read(PUBACK + b"\x40\x03\x01\x02\x10" + refused, mqtt5=True) == [
        Acknowledged(258),
        Acknowledged(258),
        refused,
    ]


def test_everything_else_stays_as_it_is() -> None:
    qos_2 = b"\x34\x07\x00\x01t\x01\x02hi"
    assert read(PING_ANSWER + qos_2) == [PING_ANSWER, qos_2]


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_where_the_stream_is_cut_makes_no_difference(cuts: list[int]) -> None:
    # 300 bytes of payload: the length, 303, is AF 02 (44 + 128, then 2).
    large = b"\x30\xaf\x02\x00\x01t" + bytes(300)
    stream = QOS_0 + large + PUBACK + PING_ANSWER + large + QOS_1
    assert read(stream, longest=306, cuts=cuts) == read(stream, longest=306)
    assert len(read(stream, longest=306)) == 6


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_a_message_longer_than_allowed_is_passed_over_and_the_next_is_read(cuts: list[int]) -> None:
    # 3,000 bytes of payload: the lengths, 3,003 and 3,005, are BB 17 and BD 17.
    first = b"\x30\xbb\x17\x00\x01t" + bytes(3000)
    second = b"\x32\xbd\x17\x00\x01t\x01\x02" + bytes(3000)
    assert read(first + QOS_0 + second + PUBACK, longest=306, cuts=cuts) == [
        PassedOver(3006, None),
        Published(b"t", b"hi", False, None, None),
        PassedOver(3008, 258),
        Acknowledged(258),
    ]


def test_what_is_no_message_may_not_be_longer_than_allowed() -> None:
    with pytest.raises(MalformedError, match="type 9 has 307 bytes"):
        read(b"\x90\xb0\x02", longest=306)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\x01\x00",  # no room for the topic's length
        b"\x30\x03\x00\x02t",  # a topic longer than its packet
        b"\x32\x04\x00\x01t\x01",  # half a packet identifier
    ],
)
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(MalformedError):
        read(stream)


@pytest.mark.parametrize("stream", [b"\x30\x03\x00\x01t", b"\x30\x04\x00\x01t\x05"])
def test_properties_that_are_missing_or_end_too_late_are_refused(stream: bytes) -> None:
    with pytest.raises(MalformedError):
        read(stream, mqtt5=True)


@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused_or_read_and_never_anything_else(noise: bytes, mqtt5: bool) -> None:
    try:
        read(noise, mqtt5=mqtt5, longest=100)
    except MalformedError:
        return


@pytest.mark.parametrize("mqtt5", [False, True])
def test_a_message_of_no_bytes_at_the_buffers_very_end_is_malformed(mqtt5: bool) -> None:
    reader = PacketReader(1000, mqtt5=mqtt5)
    room = len(reader.room)
    filler = PING_ANSWER * (room // 2 - 1)
    stream = filler + b"\x00" * (room - 2 - len(filler)) + b"\x30\x00"
    reader.room[:] = stream
    with pytest.raises(MalformedError):
        list(reader.packets(room))
