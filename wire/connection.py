"""One connection to a broker, from CONNECT to its end.

Each connection has a paho client of its own, which is thrown away with it: what paho keeps for
the next connection it would send again, up to its whole queue, while those who sent it repeat or
resume it themselves. The network loop runs in the thread of whoever calls `run`, so that the
reason of a failure is seen (paho's own thread drops it) and the end is ours to judge.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from wire.broker_profile import KIB, MIN_PACKET_BYTES, Profile, Version, narrowed
from wire.broker_settings import BrokerSettings
from wire.broker_trouble import explain, no_answer, refusal
from wire.mqtt_greeting import Will, connect_options, prepare
from wire.mqtt_sizes import (
    ACK_BYTES,
    CONNACK_BYTES,
    publish_bytes,
    suback_bytes,
    subscribe_bytes,
    unsuback_bytes,
    unsubscribe_bytes,
)
from wire.network_loop import FedClient, NetworkLoop
from wire.outbox import MAX_QUEUED, Outbox, Traffic
from wire.packet_reader import Published
from wire.prompt_socket import acknowledge_at_once, send_at_once
from wire.quiet_paho import paho_logger
from wire.websocket_send import send_whole

log = logging.getLogger("wire.link")

#: What we tell an MQTT 5 broker to send us at most: a message of 128 KiB and what MQTT adds. paho
#: would gather any packet of up to 256 MiB in memory.
MAX_INCOMING_BYTES = 129 * KIB
_TCP_S = 10.0  # for each of TCP, TLS and WebSocket
#: MQTT 5 is given up early: amqtt never answers it, and 3.1.1 does all that is needed.
_CONNACK_S: dict[Version, float] = {"5": 4.0, "3.1.1": 20.0}
_STALLED_S = 60.0
_LOOP_S = 1.0
_LARGE_BYTES = 16 * 1024  # part of a transfer, of which more will follow
_LEAVE_S = 2.0
_MAX_REFUSALS = 100
#: Properties that a PUBLISH may have (MQTT 5, 3.3.2.3), as paho names them.
_OF_PUBLISH = frozenset({
    "PayloadFormatIndicator", "MessageExpiryInterval", "TopicAlias", "ResponseTopic",
    "CorrelationData", "UserProperty", "SubscriptionIdentifier", "ContentType",
})  # fmt: skip
_UNSUPPORTED_VERSION, _NO_RETAIN, _NO_QOS = 0x84, 0x9A, 0x9B


class Ended(NamedTuple):
    """How a connection ended.

    ``how``: unreachable (no TCP, TLS or WebSocket), unanswered (no CONNACK), version (it doesn't
    speak this version of MQTT), refused, narrower (the next one must keep to less), lost (after
    it was accepted), closed (by us).
    """

    how: Literal["unreachable", "unanswered", "version", "refused", "narrower", "lost", "closed"]
    reason: str


class Connection:
    """One attempt to connect, and the connection if it succeeds.

    Args:
        settings: the broker's.
        client_id: unique in the broker.
        limits: to keep; narrowed by what an MQTT 5 broker says.
        version: of MQTT.
        will: published by the broker when the connection breaks.
        keepalive_s: see `wire.link.Link`.
        traffic: where bytes are counted.
        refusals: what the broker was said to refuse, of all connections, to be said once.
        ready: called once the broker has accepted; may subscribe and publish.
        received: called with topic, payload, and whether it was retained.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        limits: Profile,
        version: Version,
        *,
        will: Will | None,
        keepalive_s: int,
        traffic: Traffic,
        refusals: set[str],
        ready: Callable[["Connection"], None],
        received: Callable[[str, bytes, bool], None],
    ) -> None:
        self.version = version
        self.ready = False
        self._accepted = False
        self._settings = settings
        self._address = settings.address()
        self._client_id = client_id
        self._will = will
        self._keepalive_s = limits.clamp_keepalive(keepalive_s)
        self._traffic = traffic
        self._on_ready = ready
        self._received = received
        self._closing = threading.Event()
        self._ended: Ended | None = None
        self._trouble: BaseException | None = None
        self._left = "the connection broke"
        self._filters: dict[int | None, list[str]] = {}
        self._refusals = refusals
        self._network: NetworkLoop | None = None
        self._waiting: list[tuple[str, bytes, bool]] = []  # messages that paho has handled
        self.client = self._new_client(limits)
        self.outbox = Outbox(self.client, version, limits, traffic, self._write)

    @property
    def limits(self) -> Profile:
        return self.outbox.limits

    def run(self) -> Ended:
        """Connect, and stay until the connection ends; return how."""
        client = self.client
        try:
            self._traffic.up_of_network += prepare(
                client,
                self._settings,
                self._client_id,
                will=self._will,
                limits=self.limits,
                version=self.version,
            )
            options = connect_options(self.version, MAX_INCOMING_BYTES)
            client.connect(self._address.host, self._address.port, self._keepalive_s, **options)
            if self._address.websocket:
                wrapped: Any = client.socket()
                wrapped.send = send_whole(wrapped, _STALLED_S)
        except Exception as error:  # OSError, but also a host's name that can't be encoded
            return Ended("unreachable", explain(error, self._settings))
        if not self._address.websocket:
            self._network = NetworkLoop(
                client,
                MAX_INCOMING_BYTES,
                mqtt5=self.version == "5",
                arrived=self._on_bytes,
                published=self._on_published,
                passed_over=self._on_passed_over,
                handled=self._hand_over,
            )
        try:
            self._loop(client)
        finally:
            self.ready = False
            if self._network is not None:
                self._network.close()
            # It refers to us by its callbacks; without them it is freed as soon as we are.
            client.on_connect = client.on_disconnect = client.on_message = None
            client.on_publish = client.on_subscribe = None
        return self._ended or self._judge()

    def close(self) -> None:
        """End the connection in good order; `run` returns soon after."""
        self._closing.set()
        self.client.disconnect()
        if self._network is not None:
            self._network.ring()

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Subscribe, in as many packets as the broker's limit asks for."""
        most = self.limits.filters or len(topics)
        mqtt5 = self.version == "5"
        for first in range(0, len(topics), most):
            wanted = topics[first : first + most]
            names = [topic for topic, _ in wanted]
            _, packet_id = self.client.subscribe(wanted)
            self._filters[packet_id] = names
            self._traffic.up_of_network += subscribe_bytes(names, mqtt5=mqtt5)
            self._traffic.down_of_network += suback_bytes(len(names), mqtt5=mqtt5)

    def unsubscribe(self, topics: list[str]) -> None:
        """Unsubscribe, one topic a packet: that is rare."""
        mqtt5 = self.version == "5"
        for topic in topics:
            self.client.unsubscribe(topic)
            self._traffic.up_of_network += unsubscribe_bytes(topic, mqtt5=mqtt5)
            self._traffic.down_of_network += unsuback_bytes(mqtt5=mqtt5)

    # Connecting

    def _new_client(self, limits: Profile) -> FedClient:
        mqtt5 = self.version == "5"
        client = FedClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if mqtt5 else True,
            protocol=mqtt.MQTTv5 if mqtt5 else mqtt.MQTTv311,
            transport="websockets" if self._address.websocket else "tcp",
            reconnect_on_failure=False,  # and no downgrade to MQTT 3.1 behind our back
        )
        client.suppress_exceptions = True  # one in a callback would end the loop
        # Neither can be changed once it is connected.
        client.max_inflight_messages = limits.in_flight
        client.max_queued_messages = MAX_QUEUED
        client.connect_timeout = _TCP_S
        client.enable_logger(paho_logger(self._on_trouble))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = _on_socket_open
        # Whoever drives the loop himself sets this; else publish() would write to the socket in
        # its caller's thread.
        client.on_socket_register_write = _nothing
        return client

    def _loop(self, client: FedClient) -> None:
        deadline = time.monotonic() + _CONNACK_S[self.version]
        leaving = False
        while self._turn(client):
            now = time.monotonic()
            if leaving and now > deadline:
                return  # it doesn't take our DISCONNECT
            silent = not self.ready and now > deadline
            if not leaving and (silent or self._closing.is_set() or self._ended is not None):
                leaving, deadline = True, now + _LEAVE_S
                client.disconnect()

    def _turn(self, client: FedClient) -> bool:
        """Read and write once; False: the connection is over."""
        longest_s = self.outbox.send_waiting(_LOOP_S)
        if self._network is not None:
            return self._network.turn(longest_s)
        going_on = client.loop(longest_s) == mqtt.MQTT_ERR_SUCCESS
        self._hand_over()
        return going_on

    def _write(self, parts: Sequence[bytes]) -> None:
        if self._network is not None:
            self._network.write(parts)
        elif parts:
            self.client.queue(parts)

    def _judge(self) -> Ended:
        if self._closing.is_set():
            return Ended("closed", "stopped")
        if self._accepted:
            return Ended("lost", self._left)
        if self._trouble is not None and not isinstance(self._trouble, ConnectionError):
            return Ended("unreachable", explain(self._trouble, self._settings))
        return Ended("unanswered", no_answer(self._settings))

    # Callbacks of paho, in the thread of `run`

    def _on_connect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._traffic.down_of_network += CONNACK_BYTES
        if reason.is_failure:
            self._ended = self._refused(reason)
            return
        told = properties.json() if properties is not None else {}  # type: ignore[no-untyped-call]
        limits = self.outbox.limits = narrowed(self.limits, told)
        if limits.packet_bytes is not None and limits.packet_bytes < MIN_PACKET_BYTES:
            reason_ = f"it takes packets of at most {limits.packet_bytes} bytes, and a chunk needs"
            reason_ += f" {MIN_PACKET_BYTES}; raise its maximum packet size"
            self._ended = Ended("refused", reason_)
        elif limits.in_flight < self.client.max_inflight_messages:
            self._ended = Ended("narrower", "it takes fewer messages at a time")
        else:
            self.ready = self._accepted = True
            self._on_ready(self)

    def _refused(self, reason: ReasonCode) -> Ended:
        words = refusal(reason.value, str(reason), self._settings)
        if reason.value == _UNSUPPORTED_VERSION:
            return Ended("version", words)
        limits = self.limits
        if reason.value == _NO_RETAIN and limits.retain:
            self.outbox.limits = msgspec.structs.replace(limits, retain=False)
            return Ended("narrower", words)
        if reason.value == _NO_QOS and limits.max_qos > 0:
            self.outbox.limits = msgspec.structs.replace(limits, max_qos=0)
            return Ended("narrower", words)
        return Ended("refused", words)

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _more: Any
    ) -> None:
        self._left = str(reason)
        if self._trouble is not None:
            self._left = explain(self._trouble, self._settings)

    def _on_trouble(self, error: BaseException) -> None:
        self._trouble = error

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # not UTF-8, so it is no topic of ours
        properties_bytes = None
        if self.version == "5":
            properties_bytes = _properties_bytes(message.properties)
        size = publish_bytes(topic, len(message.payload), message.qos, properties_bytes)
        self._traffic.down_of_network += size
        self._traffic.up_of_network += ACK_BYTES if message.qos else 0
        if self._network is None:
            self._on_bytes(len(message.payload))
        self._waiting.append((topic, bytes(message.payload), message.retain))

    def _hand_over(self) -> None:
        """Hand over what paho has handled, once it holds no lock: that may take a while."""
        for arrived in self._waiting:
            self._deliver(*arrived)
        self._waiting.clear()

    def _deliver(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            self._received(topic, payload, retained)
        except Exception as error:  # nobody's mistake may end the connection
            log.error("a message on %s could not be handed over: %s", topic, error)

    def _on_published(self, message: Published) -> None:
        topic, payload, retained, packet_id, properties_bytes = message
        qos = 0 if packet_id is None else 1
        self._traffic.down_of_network += publish_bytes(topic, len(payload), qos, properties_bytes)
        self._traffic.up_of_network += ACK_BYTES if qos else 0
        with contextlib.suppress(UnicodeDecodeError):  # not UTF-8, so it is no topic of ours
            self._deliver(topic.decode(), payload, retained)

    def _on_passed_over(self, size_bytes: int) -> None:
        self._traffic.down_of_network += size_bytes
        self._say_refusal(f"messages above {MAX_INCOMING_BYTES} bytes are passed over")

    def _on_bytes(self, count: int) -> None:
        # In the middle of a transfer; else it would be a segment more.
        if count >= _LARGE_BYTES or self.outbox.in_flight:
            acknowledge_at_once(self.client.socket())

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, packet_id: int, reason: ReasonCode, _more: Any
    ) -> None:
        topic = self.outbox.settled(packet_id)
        if self._network is None:
            self._on_bytes(0)
        if reason.is_failure:
            self._say_refusal(f"the broker refuses {topic}: {reason}")

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, packet_id: int, reasons: Any, _more: Any
    ) -> None:
        for name, reason in zip(self._filters.pop(packet_id, []), reasons, strict=False):
            if reason.is_failure:
                self._say_refusal(f"the broker refuses to let us read {name}: {reason}")

    def _say_refusal(self, words: str) -> None:
        if words not in self._refusals and len(self._refusals) < _MAX_REFUSALS:
            self._refusals.add(words)
            log.warning("%s; check what it lets this client do", words)


def _on_socket_open(_client: mqtt.Client, _data: Any, connection: Any) -> None:
    send_at_once(connection)


def _properties_bytes(properties: Properties | None) -> int:
    """Return how many bytes a received message's properties had, their length left out."""
    # Packing looks for each of 27 names, and most messages have none of them.
    if properties is None or _OF_PUBLISH.isdisjoint(vars(properties)):
        return 0
    return len(properties.pack()) - 1  # type: ignore[no-untyped-call]


def _nothing(*_: object) -> None:
    """Take any call."""
