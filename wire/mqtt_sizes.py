"""How many bytes MQTT packets have, so that a device's traffic can be counted as it is sent.

Sources: MQTT 3.1.1 and 5.0 (OASIS), sections 2.1 to 2.2 and 3. TCP, TLS and WebSocket add theirs.
"""

#: PUBACK (3.4): fixed header and packet identifier; MQTT 5 leaves reason "success" out.
ACK_BYTES = 4
#: CONNACK (3.2) of MQTT 3.1.1; one of MQTT 5 has some bytes of properties more.
CONNACK_BYTES = 4


def packet_bytes(remaining_bytes: int) -> int:
    """Return a whole packet's size: type, length in 1 to 4 bytes of 7 bits each, and the rest."""
    length_bytes = 1
    while remaining_bytes >= 128**length_bytes:
        length_bytes += 1
    return 1 + length_bytes + remaining_bytes


def publish_bytes(
    topic: str | bytes, payload_bytes: int, qos: int, properties_bytes: int | None = None
) -> int:
    """Return the size of a PUBLISH packet (3.3).

    Args:
        topic: its name.
        payload_bytes: of the message.
        qos: above 0 there is a packet identifier.
        properties_bytes: of MQTT 5, their own length left out (below 128); None: MQTT 3.1.1.
    """
    name = topic.encode() if isinstance(topic, str) else topic
    remaining = 2 + len(name) + (2 if qos else 0) + payload_bytes
    if properties_bytes is not None:
        remaining += 1 + properties_bytes
    return packet_bytes(remaining)


def subscribe_bytes(filters: list[str], *, mqtt5: bool) -> int:
    """Return the size of a SUBSCRIBE packet without properties (3.8)."""
    wanted = sum(2 + len(one.encode()) + 1 for one in filters)
    return packet_bytes(2 + (1 if mqtt5 else 0) + wanted)


def suback_bytes(filters: int, *, mqtt5: bool) -> int:
    """Return the size of a SUBACK packet without properties (3.9)."""
    return packet_bytes(2 + (1 if mqtt5 else 0) + filters)


def unsubscribe_bytes(topic: str, *, mqtt5: bool) -> int:
    """Return the size of an UNSUBSCRIBE packet with one filter, without properties (3.10)."""
    return packet_bytes(2 + (1 if mqtt5 else 0) + 2 + len(topic.encode()))


def unsuback_bytes(*, mqtt5: bool) -> int:
    """Return the size of its UNSUBACK (3.11): in MQTT 5 with properties and a reason."""
    return packet_bytes(4 if mqtt5 else 2)


def connect_bytes(*fields: bytes, properties_bytes: int | None = None) -> int:
    """Return the size of a CONNECT packet (3.1).

    Args:
        fields: of the payload: client id, the will's topic and payload, user name, password.
        properties_bytes: of MQTT 5, their own length left out; None: MQTT 3.1.1.
    """
    remaining = 10 + sum(2 + len(field) for field in fields)
    if properties_bytes is not None:
        remaining += 1 + properties_bytes
    return packet_bytes(remaining)
