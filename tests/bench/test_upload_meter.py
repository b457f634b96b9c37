"""Packets are spelt here as MQTT 3.1.1 and MQTT 5.0 do in their section 3.3."""

import hashlib

from bench.upload_meter import UploadMeter
from wire.transfer import encode_chunk

TOPIC = "lorikeet-data/v1/bench/d/one/up"
CONNECT_4 = bytes.fromhex("100d 0004 4d515454 04 02 001e 0001 61")
CONNECT_5 = bytes.fromhex("100e 0004 4d515454 05 02 001e 00 0001 61")
SHA256 = hashlib.sha256(b"x").hexdigest()


def publish(topic: str, payload: bytes, *, qos: int = 1, properties: bytes = b"") -> bytes:
    name = topic.encode()
    rest = len(name).to_bytes(2, "big") + name + (b"\x00\x07" if qos else b"") + properties
    rest += payload
    size, length = len(rest), b""
    while size > 127:
        length += bytes([size % 128 + 128])
        size //= 128
    return bytes([0x30 | qos << 1]) + length + bytes([size]) + rest


def test_only_the_data_of_this_devices_chunks_count() -> None:
    meter = UploadMeter(TOPIC)
    meter.begin()
    chunk = encode_chunk(SHA256, 0, bytes(1000))

    meter.feed(CONNECT_4 + publish(TOPIC, chunk) + publish(TOPIC, chunk, qos=0))
    meter.feed(publish(TOPIC.replace("one", "two"), chunk) + publish("some/where", b"{}"))

    assert meter.blob_bytes == 2000


def test_it_does_not_matter_where_the_stream_is_cut_into_pieces() -> None:
    meter = UploadMeter(TOPIC)
    meter.begin()
    stream = CONNECT_4 + publish(TOPIC, encode_chunk(SHA256, 0, bytes(65_536)))
    stream += publish(TOPIC, encode_chunk(SHA256, 1, bytes(17)))

    for at in range(0, len(stream), 97):
        meter.feed(stream[at : at + 97])

    assert meter.blob_bytes == 65_536 + 17


def test_properties_of_version_5_are_no_payload() -> None:
    meter = UploadMeter(TOPIC)
    meter.begin()
    chunk = encode_chunk(SHA256, 0, bytes(1000))

    meter.feed(CONNECT_5 + publish(TOPIC, chunk, properties=b"\x00"))
    meter.feed(publish(TOPIC, chunk, properties=b"\x02\x01\x00"))  # payload format indicator

    assert meter.blob_bytes == 2000


def test_a_chunk_that_was_begun_counts_as_far_as_it_came() -> None:
    meter = UploadMeter(TOPIC)
    meter.begin()
    whole = publish(TOPIC, encode_chunk(SHA256, 0, bytes(1000)))

    meter.feed(CONNECT_4 + whole + whole[:-300])
    assert meter.blob_bytes == 1000 + 700
    meter.begin()
    assert meter.blob_bytes == 1000 + 700
    meter.feed(CONNECT_4 + whole)
    assert meter.blob_bytes == 1000 + 700 + 1000
