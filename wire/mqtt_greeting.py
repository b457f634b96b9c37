"""What a client says when it connects: who it is, its will, and what it takes at most."""

from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from wire.broker_profile import Profile, Version
from wire.broker_settings import BrokerSettings
from wire.broker_tls import tls_context
from wire.mqtt_sizes import connect_bytes

#: Of the greatest packet that we take: identifier and 4 bytes.
_PROPERTIES_BYTES = 5


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us when we vanish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


def prepare(
    client: mqtt.Client,
    settings: BrokerSettings,
    client_id: str,
    *,
    will: Will | None,
    limits: Profile,
    version: Version,
) -> int:
    """Set what comes from files, and what the broker's limits decide.

    Args:
        client: not connected yet.
        settings: the broker's.
        client_id: as the client has it.
        will: published by the broker when the connection breaks.
        limits: that the will must keep to.
        version: of MQTT.

    Returns:
        The size of the CONNECT packet, in bytes.

    Raises:
        BrokerSettingsError: a file can't be read.
        TooLargeError: the will is larger than the broker takes.
    """
    address = settings.address()
    if address.secure:
        client.tls_set_context(tls_context(settings))
    if address.websocket:
        client.ws_set_options(path=address.path)
    fields = [client_id.encode()]
    username, password = settings.credentials()
    if username is not None:
        client.username_pw_set(username, password)
        fields += [one.encode() for one in (username, password) if one is not None]
    if will is not None:
        limits.check(will.topic, len(will.payload), retain=will.retain)
        qos, retain = min(will.qos, limits.max_qos), will.retain and limits.retain
        client.will_set(will.topic, will.payload, qos, retain)
        fields += [will.topic.encode(), will.payload]
    properties_bytes = None
    if version == "5":  # the will has properties of its own: none, which takes a byte
        properties_bytes = _PROPERTIES_BYTES + (1 if will is not None else 0)
    return connect_bytes(*fields, properties_bytes=properties_bytes)


def connect_options(version: Version, longest_bytes: int) -> dict[str, Any]:
    """Return what MQTT 5 has beyond: a clean start each time, and a bound for what we get.

    The default expiry of a session, 0, ends it with the connection, as clean sessions do.

    Args:
        version: of MQTT.
        longest_bytes: of a packet that may come.
    """
    if version != "5":
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = longest_bytes
    return {"clean_start": True, "properties": properties}
