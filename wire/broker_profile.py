"""What a broker takes, as named presets: ``broker.profile`` of the hub, ``--broker-profile``.

A profile is data. The link holds every message, subscription and connection to it, and narrows it
further by what an MQTT 5 broker says when it accepts the connection. None means: no limit that
a message of ours could reach. Each preset names its source; quotas of a cloud are those that
nobody can raise on request, unless it says otherwise.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

from wire.errors import TooLargeError
from wire.mqtt_sizes import publish_bytes

KIB = 1024
#: A chunk with its header; everything else is smaller. AWS IoT Core takes 128 KB.
MAX_PAYLOAD_BYTES = 128 * KIB
#: What a broker must take: a chunk of 64 KiB, its header of 28 bytes, the longest topic, and
#: what MQTT adds. Less, and no adapter could ever arrive.
MIN_PACKET_BYTES = 65 * KIB
#: Unacknowledged messages with QoS 1. mosquitto takes 20 unless told otherwise.
MAX_IN_FLIGHT = 20
ProfileName = Literal[
    "generic", "mosquitto-2.1", "amqtt", "aws-iot", "azure-event-grid", "hivemq", "emqx"
]
Version = Literal["5", "3.1.1"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one kind of broker, or of one connection to it.

    Attributes:
        source: where the numbers stand.
        versions: of MQTT that it speaks, the better one first.
        packet_bytes: of a whole PUBLISH packet; MQTT itself ends at 256 MiB.
        payload_bytes: of a message.
        retained_bytes: of the payload of a retained message.
        topic_bytes, slashes: of a topic or a filter.
        client_id_bytes: of the name under which a client connects.
        filters: in one SUBSCRIBE packet.
        subscriptions: of one connection.
        in_flight: messages with QoS 1 that aren't acknowledged yet.
        max_qos: the highest that it takes.
        retain: whether it keeps retained messages.
        keepalive_s: the shortest and the longest that it holds to.
        publishes_per_s, bytes_per_s: of one connection, in any one second.
        connect_pause_s: between two attempts to connect.
        alpn: by port, what a client must say in the TLS handshake (RFC 7301) to be taken for one
            of MQTT with a certificate.
    """

    source: str
    versions: tuple[Version, ...] = ("5", "3.1.1")
    packet_bytes: int | None = None
    payload_bytes: int = MAX_PAYLOAD_BYTES
    retained_bytes: int | None = None
    topic_bytes: int = 65_535
    slashes: int | None = None
    client_id_bytes: int = 65_535
    filters: int | None = None
    subscriptions: int | None = None
    in_flight: int = MAX_IN_FLIGHT
    max_qos: int = 2
    retain: bool = True
    keepalive_s: tuple[int, int] = (1, 65_535)
    publishes_per_s: int | None = None
    bytes_per_s: int | None = None
    connect_pause_s: float = 0.0
    alpn: Mapping[int, str] = {}

    def check_topic(self, topic: str) -> None:
        """Check a topic or a filter.

        Raises:
            TooLargeError: it is longer or has more slashes than the broker takes.
        """
        size = len(topic.encode())
        if size > self.topic_bytes:
            raise TooLargeError(f"topic {topic!r} has {size} bytes; at most {self.topic_bytes}.")
        slashes = topic.count("/")
        if self.slashes is not None and slashes > self.slashes:
            raise TooLargeError(f"topic {topic!r} has {slashes} slashes; at most {self.slashes}.")

    def check_client_id(self, client_id: str) -> None:
        """Check a client's name.

        Raises:
            TooLargeError: it is longer than the broker takes.
        """
        size = len(client_id.encode())
        if size > self.client_id_bytes:
            raise TooLargeError(
                f"client id {client_id!r} has {size} bytes; at most {self.client_id_bytes}."
            )

    def check(self, topic: str, payload_bytes: int, *, retain: bool = False) -> None:
        """Check a message before it is handed over.

        Raises:
            TooLargeError: some brokers would drop the connection, again and again.
        """
        self.check_topic(topic)
        limits = [self.payload_bytes]
        if retain and self.retained_bytes is not None:
            limits.append(self.retained_bytes)
        if payload_bytes > min(limits):
            kind = "retained " if retain else ""
            raise TooLargeError(
                f"{payload_bytes} {kind}bytes for {topic}; at most {min(limits)} may be published."
            )
        # With the most that MQTT can add: QoS 1, and the properties that the link may send.
        packet = publish_bytes(topic, payload_bytes, 1, properties_bytes=5)
        if self.packet_bytes is not None and packet > self.packet_bytes:
            raise TooLargeError(
                f"a packet of {packet} bytes for {topic}; the broker takes {self.packet_bytes}."
            )

    def clamp_keepalive(self, keepalive_s: int) -> int:
        """Return the nearest keep-alive that the broker holds to, in seconds."""
        least, most = self.keepalive_s
        return min(max(keepalive_s, least), most)


def narrowed(profile: Profile, told: Mapping[str, Any]) -> Profile:
    """Return a profile narrowed by what an MQTT 5 broker says in its CONNACK.

    Args:
        profile: the limits so far.
        told: properties by their names in the specification (3.2.2.3), without blanks.
    """
    known = [profile.packet_bytes, told.get("MaximumPacketSize")]
    packets = [one for one in known if one is not None]
    return msgspec.structs.replace(
        profile,
        packet_bytes=min(packets) if packets else None,
        in_flight=min(profile.in_flight, told.get("ReceiveMaximum", 65_535)),
        max_qos=min(profile.max_qos, told.get("MaximumQoS", 2)),
        retain=profile.retain and bool(told.get("RetainAvailable", 1)),
    )


PROFILES: dict[ProfileName, Profile] = {
    "generic": Profile(
        source="MQTT 3.1.1 and 5.0 (OASIS); mosquitto.conf(5) of mosquitto 2.0: "
        "max_inflight_messages 20, packets of up to 256 MiB"
    ),
    "mosquitto-2.1": Profile(
        source="mosquitto.org/blog/2026/01/version-2-1-0-released: max_packet_size now 2,000,000, "
        "the receive maximum is enforced",
        packet_bytes=2_000_000,
    ),
    "amqtt": Profile(
        source="amqtt 0.12.1, mqtt/protocol/broker_handler.py: protocol level 4 alone; it doesn't "
        "answer a CONNECT of MQTT 5 at all (tests/wire/test_link_amqtt.py)",
        versions=("3.1.1",),
    ),
    "aws-iot": Profile(
        source="docs.aws.amazon.com/general/latest/gr/iot-core.html#message-broker-limits and "
        "#iot-protocol-limits; what exceeds the rate of publishes is discarded",
        payload_bytes=128 * KIB,
        topic_bytes=256,
        slashes=7,
        client_id_bytes=128,
        filters=8,
        subscriptions=50,
        max_qos=1,
        keepalive_s=(30, 1200),
        publishes_per_s=100,
        bytes_per_s=512 * KIB,
        connect_pause_s=1.0,  # one CONNECT a second from one client id
        # docs.aws.amazon.com/iot/latest/developerguide/protocols.html; 8883 needs none
        alpn={443: "x-amzn-mqtt-ca"},
    ),
    "azure-event-grid": Profile(
        source="learn.microsoft.com/azure/event-grid/quotas-limits, mqtt-support and mqtt-retain; "
        "100 publishes a second as of 2023, more since",
        packet_bytes=512 * KIB,
        retained_bytes=64 * KIB,
        topic_bytes=256,
        slashes=7,  # 8 segments
        client_id_bytes=128,
        filters=10,
        subscriptions=50,
        in_flight=1,  # 64 KB may be in flight: one chunk
        max_qos=1,
        keepalive_s=(1, 1160),
        publishes_per_s=100,
        bytes_per_s=1_000_000,
    ),
    "hivemq": Profile(
        source="docs.hivemq.com, MQTT-specific configuration: server receive maximum 10, packets "
        "of up to 268,435,460 bytes",
        packet_bytes=268_435_460,
        in_flight=10,
    ),
    "emqx": Profile(
        source="docs.emqx.com, MQTT configuration: max_packet_size 1MB, max_topic_levels 128; the "
        "retainer's max_payload_size 1MB",
        packet_bytes=KIB * KIB,
        retained_bytes=KIB * KIB,
        slashes=127,
    ),
}

if set(PROFILES) != set(get_args(ProfileName)):
    raise AssertionError("each name of a profile has one, and no other")
