"""Profiles: their numbers as the services publish them, and what a link may send under each."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from wire.broker_profile import (
    MIN_PACKET_BYTES,
    PROFILES,
    Profile,
    ProfileName,
    narrowed,
)
from wire.errors import TooLargeError
from wire.topics import Topics
from wire.transfer import CHUNK_BYTES, HEADER_BYTES

LONGEST = "x" * 63  # the longest name of a fleet, a job, a device
TOPICS = Topics(LONGEST)
CHUNK_TOPICS = [
    TOPICS.slice_chunk(LONGEST, LONGEST),
    TOPICS.upload_chunk(LONGEST),
    TOPICS.repair_chunk(LONGEST),
]
OTHERS = [
    TOPICS.event(LONGEST, LONGEST),
    TOPICS.request(LONGEST, LONGEST),
    TOPICS.command(LONGEST, LONGEST),
    TOPICS.reply(LONGEST),
    TOPICS.telemetry(LONGEST),
]
RETAINED = [
    TOPICS.hub_state(),
    TOPICS.job_round(LONGEST),
    TOPICS.device_state(LONGEST),
    TOPICS.device_info(LONGEST),
]
DOCS = Path(__file__).parents[2] / "docs" / "brokers.md"


@pytest.mark.parametrize("name", PROFILES)
def test_our_longest_topics_and_largest_messages_pass_every_profile(name: ProfileName) -> None:
    profile = PROFILES[name]
    for topic in CHUNK_TOPICS:
        profile.check(topic, CHUNK_BYTES + HEADER_BYTES)
    for topic in OTHERS:
        profile.check(topic, 64 * 1024)
    for topic in RETAINED:
        profile.check(topic, 8 * 1024, retain=True)
    profile.check_client_id(f"{LONGEST}-{'0' * 12}")
    profile.check_client_id(f"hub-{LONGEST}-{'0' * 8}")
    assert profile.clamp_keepalive(50) == 50


def test_every_name_has_a_profile_with_its_source() -> None:
    assert set(PROFILES) == set(get_args(ProfileName))
    assert all(one.source for one in PROFILES.values())


def test_the_numbers_of_aws_iot_core_are_those_of_its_quotas() -> None:
    # docs.aws.amazon.com/general/latest/gr/iot-core.html, "protocol" and "message broker" limits
    aws = PROFILES["aws-iot"]
    assert (aws.payload_bytes, aws.topic_bytes, aws.slashes) == (131_072, 256, 7)
    assert (aws.filters, aws.subscriptions, aws.client_id_bytes) == (8, 50, 128)
    assert (aws.publishes_per_s, aws.bytes_per_s, aws.keepalive_s) == (100, 524_288, (30, 1200))
    assert aws.in_flight <= 100
    assert aws.max_qos == 1


@pytest.mark.parametrize(
    ("fields", "topic", "size", "retain", "words"),
    [
        ({"topic_bytes": 3}, "a/bc", 0, False, "has 4 bytes; at most 3"),
        ({"topic_bytes": 3}, "äö", 0, False, "has 4 bytes; at most 3"),
        ({"slashes": 1}, "a/b/c", 0, False, "has 2 slashes; at most 1"),
        ({"payload_bytes": 10}, "a", 11, False, "11 bytes for a; at most 10"),
        ({"retained_bytes": 5}, "a", 6, True, "6 retained bytes for a; at most 5"),
        # PUBLISH: 2 + (2 + 1) + 2 + (1 + 5) + payload, by section 3.3 of MQTT 5
        ({"packet_bytes": 112}, "a", 100, False, "113 bytes for a; the broker takes 112"),
    ],
)
def test_a_message_beyond_a_limit_is_refused_with_both_numbers(
    fields: dict[str, int], topic: str, size: int, retain: bool, words: str
) -> None:
    profile = Profile(source="a test", **fields)  # type: ignore[arg-type]
    with pytest.raises(TooLargeError, match=words):
        profile.check(topic, size, retain=retain)


@pytest.mark.parametrize(
    ("fields", "topic", "size", "retain"),
    [
        ({"topic_bytes": 4}, "a/bc", 0, False),
        ({"slashes": 2}, "a/b/c", 0, False),
        ({"payload_bytes": 10}, "a", 10, False),
        ({"retained_bytes": 5}, "a", 5, True),
        ({"retained_bytes": 5}, "a", 6, False),
        ({"packet_bytes": 113}, "a", 100, False),
    ],
)
def test_a_message_at_a_limit_passes(
    fields: dict[str, int], topic: str, size: int, retain: bool
) -> None:
    Profile(source="a test", **fields).check(topic, size, retain=retain)  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "kept"), [(5, 30), (30, 30), (1200, 1200), (2000, 1200)])
def test_a_keepalive_is_brought_within_what_the_broker_holds_to(asked: int, kept: int) -> None:
    assert PROFILES["aws-iot"].clamp_keepalive(asked) == kept


def test_what_a_broker_says_only_narrows() -> None:
    told = {
        "MaximumPacketSize": 100_000,
        "ReceiveMaximum": 7,
        "MaximumQoS": 0,
        "RetainAvailable": 0,
        "TopicAliasMaximum": 10,
    }
    both = narrowed(PROFILES["aws-iot"], told)
    assert (both.packet_bytes, both.in_flight, both.max_qos, both.retain) == (100_000, 7, 0, False)
    assert both.filters == 8
    wide = {"MaximumPacketSize": 10**8, "ReceiveMaximum": 65_535, "RetainAvailable": 1}
    assert narrowed(PROFILES["azure-event-grid"], wide) == PROFILES["azure-event-grid"]
    assert narrowed(PROFILES["generic"], {}) == PROFILES["generic"]


def test_the_least_packet_that_a_broker_must_take_holds_a_chunk_with_the_longest_topic() -> None:
    longest = max(len(topic) for topic in CHUNK_TOPICS)
    # Type, length in three bytes, topic, packet id, properties of an expiry, header and chunk.
    assert 1 + 3 + 2 + longest + 2 + 6 + HEADER_BYTES + CHUNK_BYTES <= MIN_PACKET_BYTES
    assert all((one.packet_bytes or 2**28) >= MIN_PACKET_BYTES for one in PROFILES.values())


@pytest.mark.parametrize("name", PROFILES)
def test_the_page_shows_a_profiles_numbers(name: ProfileName) -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in rows[0].split("|")[2:-1]]
    fields = msgspec.structs.asdict(PROFILES[name])
    least, most = PROFILES[name].keepalive_s
    wanted = {
        "versions": ", ".join(PROFILES[name].versions),
        "keepalive_s": f"{least} to {most}",
    }
    left_out = ("source", "retain", "connect_pause_s", "alpn")
    shown = [
        wanted.get(key, "–" if value is None else str(value))
        for key, value in fields.items()
        if key not in left_out
    ]
    assert cells == shown
