"""The connection to the broker; the only file that imports paho.

A `Link` keeps one MQTT 3.1.1 connection alive for ever (exponential back-off with jitter) and
turns everything that happens into events on the queue it was given. Its callbacks only enqueue:
an exception in a paho callback would end paho's network thread for good.
"""

import logging
import queue
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from wire.errors import BrokerUrlError, TooLargeError

log = logging.getLogger(__name__)

#: A chunk with its header; everything else is smaller. AWS IoT Core takes 128 KB.
MAX_PAYLOAD_BYTES = 128 * 1024
MAX_IN_FLIGHT = 20
MAX_QUEUED = 500
_FIRST_RETRY_S = 1
_LAST_RETRY_S = 60


class Connected(msgspec.Struct, frozen=True):
    """The broker took us; subscriptions are under way."""


class Disconnected(msgspec.Struct, frozen=True):
    """The broker is away; the link goes on trying."""

    reason: str


class Received(msgspec.Struct, frozen=True):
    """A message arrived."""

    topic: str
    payload: bytes
    retained: bool


LinkEvent = Connected | Disconnected | Received


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us when we vanish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class BrokerUrl(msgspec.Struct, frozen=True):
    """``mqtt://[user[:password]@]host[:port]``."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> "BrokerUrl":
        """Read a broker's URL.

        Raises:
            BrokerUrlError: it has another scheme, no host, or an impossible port.
        """
        parts = urlsplit(text if "://" in text else f"mqtt://{text}")
        try:
            port = parts.port or 1883
        except ValueError as error:
            raise BrokerUrlError(f"broker is {text!r}: {error}. Use mqtt://host:port.") from error
        if parts.scheme != "mqtt" or not parts.hostname:
            raise BrokerUrlError(f"broker is {text!r}; allowed is mqtt://host:port.")
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )


class Link:
    """One connection: publishes, subscribes, and puts `LinkEvent`s on a queue.

    Args:
        url: the broker.
        client_id: unique in the broker: two connections with one id evict each other for ever.
        deliver: takes each event; called on the network thread, so it must only enqueue.
        will: published by the broker when the connection breaks.
        keepalive_s: the broker notices our death after one and a half times this.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        deliver: Callable[[LinkEvent], None],
        *,
        will: Will | None = None,
        keepalive_s: int = 30,
    ) -> None:
        self.broker = BrokerUrl.parse(url)
        self.bytes_up = 0  # payloads and topics
        self.bytes_down = 0
        self._deliver = deliver
        self._subscriptions: list[tuple[str, int]] = []
        self._keepalive_s = keepalive_s
        self._away_said = False
        # Two counters, each written by one thread. A lock shared by publish() and paho's
        # on_publish would deadlock: paho calls that one with its own mutex held.
        self._published = 0
        self._acknowledged = 0
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
        )
        client.suppress_exceptions = True
        client.max_inflight_messages = MAX_IN_FLIGHT
        client.max_queued_messages = MAX_QUEUED
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        # Drawn anew by each process, so that a thousand devices don't come back at once.
        first = _FIRST_RETRY_S + random.randint(0, 1)  # noqa: S311
        client.reconnect_delay_set(first, _LAST_RETRY_S + random.randint(0, 30))  # noqa: S311
        if self.broker.username:
            client.username_pw_set(self.broker.username, self.broker.password)
        if will:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client = client

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    @property
    def in_flight(self) -> int:
        """Published with QoS 1 and not yet acknowledged by the broker."""
        return max(0, self._published - self._acknowledged)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._client.connect_async(self.broker.host, self.broker.port, self._keepalive_s)
        self._client.loop_start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Disconnect in good order: what is in flight gets a moment to leave first."""
        deadline = time.monotonic() + timeout_s
        while self.connected and self.in_flight > 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now, and again after each reconnect."""
        self._subscriptions.append((topic, qos))
        if self.connected:
            self._client.subscribe(topic, qos)

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> bool:
        """Hand a message to the broker; False if it is away or the queue is full.

        Nothing is kept for later: whoever needs an answer repeats the question.

        Raises:
            TooLargeError: some brokers would drop the connection, again and again.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise TooLargeError(
                f"{len(payload)} bytes for {topic}; at most {MAX_PAYLOAD_BYTES} may be published."
            )
        if not self.connected:
            return False
        self._published += 1 if qos else 0
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self._published -= 1 if qos else 0
            return False
        self.bytes_up += len(payload) + len(topic)
        return True

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._say_away(f"the broker refused the connection: {reason}")
            return
        if self._away_said:
            log.info("broker %s:%d is back", self.broker.host, self.broker.port)
        self._away_said = False
        if self._subscriptions:
            client.subscribe(list(self._subscriptions))
        self._deliver(Connected())

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        self._say_away("no connection")

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._say_away(str(reason))
        self._deliver(Disconnected(str(reason)))

    def _say_away(self, reason: str) -> None:
        if not self._away_said:
            self._away_said = True
            log.warning(
                "broker %s:%d is away (%s); trying again for as long as it takes",
                self.broker.host,
                self.broker.port,
                reason,
            )

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.bytes_down += len(message.payload) + len(message.topic)
        self._deliver(Received(message.topic, bytes(message.payload), message.retain))

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, _mid: int, _reason: Any, _properties: Any
    ) -> None:
        self._acknowledged += 1


def bounded(inbox: "queue.Queue[Any]", patience_s: float = 5.0) -> Callable[[Any], None]:
    """Return a `Link` delivery that waits for a full queue, then drops.

    Waiting makes TCP slow the sender down; dropping keeps the connection alive. Nothing is lost
    for good: requests, offers and chunks are repeated until they are answered.
    """

    def deliver(event: Any) -> None:
        try:
            inbox.put(event, timeout=patience_s)
        except queue.Full:
            log.warning("inbox full; dropped %s", type(event).__name__)

    return deliver
