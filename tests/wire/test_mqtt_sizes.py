"""Sizes of packets, worked out by hand from MQTT 3.1.1 and 5.0, sections 2 and 3.

`test_link_limits.py` compares them with what passes a tap.
"""

import pytest

from wire.mqtt_sizes import (
    connect_bytes,
    packet_bytes,
    publish_bytes,
    suback_bytes,
    subscribe_bytes,
)


@pytest.mark.parametrize(
    ("remaining", "length_bytes"),
    [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4)],
)
def test_the_length_grows_with_what_it_tells(remaining: int, length_bytes: int) -> None:
    # 2.2.3, table 2.4
    assert packet_bytes(remaining) == 1 + length_bytes + remaining


def test_a_publish_has_its_topic_its_id_and_its_properties() -> None:
    assert publish_bytes("a/b", 10, 0) == 2 + (2 + 3) + 10
    assert publish_bytes("a/b", 10, 1) == 2 + (2 + 3) + 2 + 10
    assert publish_bytes("a/b", 10, 1, 0) == 2 + (2 + 3) + 2 + 1 + 10
    assert publish_bytes("a/b", 10, 1, 5) == 2 + (2 + 3) + 2 + (1 + 5) + 10
    assert publish_bytes("ä", 0, 0) == 2 + (2 + 2)


def test_a_subscription_has_a_byte_of_options_for_each_topic() -> None:
    assert subscribe_bytes(["a", "bc"], mqtt5=False) == 2 + 2 + (2 + 1 + 1) + (2 + 2 + 1)
    assert subscribe_bytes(["a"], mqtt5=True) == 2 + 2 + 1 + (2 + 1 + 1)
    assert suback_bytes(3, mqtt5=False) == 2 + 2 + 3
    assert suback_bytes(3, mqtt5=True) == 2 + 2 + 1 + 3


def test_a_connect_has_ten_bytes_and_its_fields() -> None:
    assert connect_bytes(b"ward") == 2 + 10 + (2 + 4)
    assert connect_bytes(b"ward", b"u", b"", properties_bytes=5) == 2 + 10 + 6 + 6 + 3 + 2
