"""What is read of good, foreign and hostile messages."""

import json
import random
from typing import Any

import pytest

from hub.watching.reading import document, read
from wire.messages import DeviceState, encode
from wire.topics import Route
from wire.transfer import Chunk, encode_chunk

STATE = "lorikeet/v1/clinics/d/ward/state"
SLICE = "lorikeet-data/v1/clinics/job/notes/slice/lora-0"
READY = DeviceState(state="ready", session="s", ts=1.5)


def test_a_message_is_read_with_its_fleet_and_route() -> None:
    reading = read(STATE, encode(READY), True)
    assert (reading.fleet, reading.route) == ("clinics", Route("device_state", device="ward"))
    assert (reading.content, reading.fault, reading.retained) == (READY, "", True)
    assert document(reading) == {
        "topic": STATE,
        "retained": True,
        "payload": {"state": "ready", "session": "s", "ts": 1.5, "reason": None},
    }


def test_of_a_chunk_the_document_has_the_header_and_never_the_bytes() -> None:
    reading = read(SLICE, encode_chunk("6f1c2a9e" * 8, 3, b"secret"), False)
    assert isinstance(reading.content, Chunk)
    assert document(reading)["payload"] == {
        "blob": "6f1c2a9e6f1c2a9e", "index": 3, "offset": 196608, "size_bytes": 6
    }  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "payload", "fault"),
    [
        (STATE, b"", ""),
        (STATE, b"{", "not a DeviceState"),
        (STATE, b'{"state":"asleep","session":"s","ts":1}', "asleep"),
        (STATE, b"\xff\xfe", "not a DeviceState"),
        (STATE, b"[" * 100_000, "not a DeviceState"),
        (STATE, b"{" * 200_000, "at most 131072"),
        (SLICE, b"LKC1", "28 bytes of header"),
        (SLICE, b"x" * 100, "a chunk begins with"),
        ("lorikeet/v1/clinics/d/ward/up/req/steal", b"\xff", ""),
        ("lorikeet/v1/clinics/whatever", b"{}", ""),
        ("lorikeet", b"{}", ""),
        ("lorikeet/v1/\x1b[2J/hub/state", b"{}", ""),
    ],
)
def test_what_cannot_be_read_has_no_content_and_says_why(
    topic: str, payload: bytes, fault: str
) -> None:
    reading = read(topic, payload, False)
    assert reading.content is None
    assert (fault in reading.fault) and (bool(fault) == bool(reading.fault))
    json.dumps(document(reading))


def test_what_is_json_but_not_as_promised_is_shown_with_its_fault() -> None:
    made = document(read(STATE, b'{"state":"asleep","session":"s","ts":1}', False))
    assert made["payload"] == {"state": "asleep", "session": "s", "ts": 1}
    assert "asleep" in made["fault"]


def test_what_is_no_json_has_a_fault_and_no_payload() -> None:
    made = document(read("lorikeet/v1/clinics/d/ward/up/req/steal", b"\xff", False))
    assert made["payload"] is None
    assert made["fault"].startswith("not JSON")


@pytest.mark.parametrize(
    "payload", [b"[" * 900 + b"]" * 900, b"1" * 4000, b"1" * 5000, b'"\\ud800"', b'"\\u001b"']
)
def test_a_document_of_any_payload_can_be_printed(payload: bytes) -> None:
    text = json.dumps(document(read("lorikeet/v1/clinics/new", payload, False)))
    assert text.isascii()
    assert text.isprintable()


def test_damaged_messages_are_read_without_failing() -> None:
    rng = random.Random(7)
    whole: list[tuple[str, bytes]] = [
        (STATE, encode(READY)),
        (SLICE, encode_chunk("0" * 64, 0, b"data" * 10)),
    ]
    for _ in range(3000):
        topic, payload = rng.choice(whole)
        damaged: Any = bytearray(payload)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        json.dumps(document(read(topic, bytes(damaged[: rng.randint(0, len(damaged))]), False)))
