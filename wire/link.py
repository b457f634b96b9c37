"""The link to the broker: one connection after the other, for ever; events on a queue.

A `Link` keeps trying (exponential back-off with jitter) and says each reason once. Its thread only
enqueues what happens; nobody's mistake in taking an event can end it.

It speaks MQTT 5 where the broker has it, else 3.1.1 (`wire/protocol_choice.py`), and holds each
message to the broker's limits (`wire/broker_profile.py`). An acknowledgement by the broker is
never taken as delivery, in either direction: whatever must not be lost is acknowledged by a message
of our own once it is on disk. So the link leaves it to paho to acknowledge what arrives, before it
is handled (no ``manual_ack``), and never waits for a publish to be acknowledged.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from wire.broker_profile import MAX_PAYLOAD_BYTES, Profile
from wire.broker_settings import BrokerSettings
from wire.broker_tls import check_files
from wire.connection import Connection, Ended
from wire.errors import TooLargeError
from wire.link_events import Connected, Disconnected, LinkEvent, Received, bounded
from wire.mqtt_greeting import Will
from wire.outbox import Traffic
from wire.protocol_choice import ProtocolChoice

__all__ = [
    "MAX_PAYLOAD_BYTES", "BrokerSettings", "Connected", "Disconnected", "Link", "LinkEvent",
    "Received", "Will", "bounded",
]  # fmt: skip

log = logging.getLogger(__name__)

#: A broker notices a death after one and a half times this (MQTT, 3.1.2.10): 75 s, and the seconds
#: until it looks, so within 90. A ping, its answer and TCP's acknowledgement take 106 bytes up and
#: 54 down with the headers of TCP and IP: 127 and 65 a minute of the 1,000 and 500 that an idle
#: device may spend.
KEEPALIVE_S = 50
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0
#: A connection that lasted this long was a good one: the next pause is the shortest again.
_GOOD_S = 5.0


class Link:
    """Publishes, subscribes, and hands `LinkEvent`s over.

    Args:
        broker: its settings, or just its URL.
        client_id: unique in the broker: two connections with one id evict each other for ever.
        deliver: takes each event; called on the link's thread, so it must only enqueue.
        will: published by the broker when the connection breaks.
        keepalive_s: how long the connection may be silent, in seconds; within the broker's limits.

    Attributes:
        trouble: why the broker is away, in words; None while it is there, or wasn't tried yet.

    Raises:
        BrokerSettingsError: nobody can connect with these settings.
        TooLargeError: the client id or the will is larger than the broker takes.
    """

    def __init__(
        self,
        broker: BrokerSettings | str,
        client_id: str,
        deliver: Callable[[LinkEvent], None],
        *,
        will: Will | None = None,
        keepalive_s: int = KEEPALIVE_S,
    ) -> None:
        settings = BrokerSettings(url=broker) if isinstance(broker, str) else broker
        self.broker = settings.address()
        check_files(settings)
        self._limits = settings.limits
        self._limits.check_client_id(client_id)
        if will is not None:
            self._limits.check(will.topic, len(will.payload), retain=will.retain)
        self._settings = settings
        self._client_id = client_id
        self._deliver = deliver
        self._will = will
        self._keepalive_s = keepalive_s
        self._choice = ProtocolChoice(settings.versions)
        self._traffic = Traffic()
        self._subscriptions: list[tuple[str, int]] = []
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()  # why it was away, since the last good connection
        self._away = False  # and that was said
        self.trouble: str | None = None
        self._refusals: set[str] = set()
        self._said_no_retain = False

    @property
    def connected(self) -> bool:
        connection = self._connection
        return connection is not None and connection.ready

    @property
    def protocol(self) -> str | None:
        """The version of MQTT that the broker took; None before it took one."""
        return self._choice.version if self._choice.settled else None

    @property
    def limits(self) -> Profile:
        """What a message must keep to now."""
        connection = self._connection
        return connection.limits if connection is not None else self._limits

    @property
    def in_flight(self) -> int:
        """Messages that were published and have not reached the broker, as far as is known."""
        connection = self._connection
        return connection.outbox.in_flight if connection is not None and connection.ready else 0

    @property
    def bytes_up(self) -> int:
        """Bytes of the MQTT packets that were sent: messages, subscriptions, acknowledgements.

        Whole packets, headers, topics and properties included. Acknowledgements are counted at
        four bytes each; pings (two bytes), what a broken connection lost on its way, and what
        WebSocket, TLS, TCP and IP add are left out.
        """
        return self._traffic.up

    @property
    def bytes_down(self) -> int:
        """Bytes of the MQTT packets that came, counted as in `bytes_up`."""
        return self._traffic.down

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread = threading.Thread(
            target=self._run, name=f"link-{self._client_id}", daemon=True
        )
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Disconnect in good order: what is in flight gets a moment to leave first."""
        deadline = time.monotonic() + timeout_s
        while self.connected and self.in_flight > 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        if self._thread is not None:
            self._thread.join(timeout_s)  # it may be held by a name server that doesn't answer

    def subscribe(self, topic: str, qos: int = 1) -> None:
        """Subscribe now, and again after each reconnect.

        Raises:
            TooLargeError: the topic, or the number of subscriptions, is more than the broker takes.
        """
        limits = self._limits
        limits.check_topic(topic)
        if limits.subscriptions is not None and len(self._subscriptions) >= limits.subscriptions:
            raise TooLargeError(
                f"{topic} is one subscription too many; at most {limits.subscriptions}."
            )
        self._subscriptions.append((topic, qos))
        connection = self._connection
        if connection is not None and connection.ready:
            connection.subscribe([(topic, qos)])

    def unsubscribe(self, topic: str) -> None:
        """Take a subscription back; one that isn't there is no error."""
        kept = [one for one in self._subscriptions if one[0] != topic]
        if len(kept) == len(self._subscriptions):
            return
        self._subscriptions[:] = kept
        connection = self._connection
        if connection is not None and connection.ready:
            connection.unsubscribe([topic])

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> bool:
        """Hand a message to the broker; False if it is away or too many messages wait for it.

        Nothing is kept for later: whoever needs an answer repeats the question.

        Args:
            topic: its name.
            payload: of the message.
            qos: 0 or 1.
            retain: whether the broker keeps it for those who come later.
            expiry_s: after which it is of no use, in seconds; MQTT 5 only.

        Raises:
            TooLargeError: some brokers would drop the connection, again and again.
        """
        connection = self._connection
        if connection is None or not connection.ready:
            self.limits.check(topic, len(payload), retain=retain)
            return False
        return connection.outbox.publish(topic, payload, qos, retain, expiry_s)

    def publish_together(self, topic: str, payloads: Sequence[bytes]) -> int:
        """Hand messages at QoS 0 to the broker by one call; return how many of them are taken.

        Raises:
            TooLargeError: some brokers would drop the connection, again and again.
        """
        connection = self._connection
        if connection is None or not connection.ready:
            return 0
        return connection.outbox.publish_together(topic, payloads)

    # The link's thread

    def _run(self) -> None:
        pause_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            ended = self._connect()
            if self._stopping.is_set() or ended.how == "closed":
                return
            if self._again_at_once(ended):
                self._stopping.wait(self._limits.connect_pause_s)
                continue
            if ended.how == "lost" and time.monotonic() - began >= _GOOD_S:
                pause_s = _FIRST_RETRY_S
                self._said.clear()
            self._say_away(ended.reason)
            # Drawn anew each time, so that a thousand devices don't come back at once.
            drawn_s = pause_s * random.uniform(0.5, 1.5)  # noqa: S311
            self._stopping.wait(max(drawn_s, self._limits.connect_pause_s))
            pause_s = min(pause_s * 2, _LAST_RETRY_S)

    def _connect(self) -> Ended:
        """Make one connection and stay until it ends."""
        accepted = threading.Event()
        connection: Connection | None = None

        def ready(connection: Connection) -> None:
            accepted.set()
            self._on_ready(connection)

        try:
            connection = self._connection = Connection(
                self._settings,
                self._client_id,
                self._limits,
                self._choice.version,
                will=self._will,
                keepalive_s=self._keepalive_s,
                traffic=self._traffic,
                refusals=self._refusals,
                ready=ready,
                received=self._on_message,
            )
            if self._stopping.is_set():  # and nobody could have closed this one
                return Ended("closed", "stopped")
            ended = connection.run()
            if ended.how == "narrower":
                self._limits = connection.limits
        except Exception as error:
            log.exception("the link to %s failed; trying again", self.broker.shown)
            ended = Ended("lost", str(error))
        finally:
            self._connection = None
        if accepted.is_set():
            self._hand_over(Disconnected(ended.reason))
        return ended

    def _again_at_once(self, ended: Ended) -> bool:
        if ended.how in ("version", "unanswered"):
            return self._choice.unanswered(refused=ended.how == "version")
        return ended.how == "narrower"

    def _on_ready(self, connection: Connection) -> None:
        if not self._choice.settled:
            log.info("broker %s speaks MQTT %s", self._name, connection.version)
        self._choice.accepted()
        self.trouble = None
        if self._away:
            log.info("broker %s is back", self._name)
            self._away = False
        if not connection.limits.retain and not self._said_no_retain:
            self._said_no_retain = True
            log.warning(
                "broker %s keeps no retained messages: who comes late learns of a job only when "
                "it is next announced; switch them on there",
                self._name,
            )
        if self._subscriptions:
            connection.subscribe(list(self._subscriptions))
        self._hand_over(Connected())

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        self._hand_over(Received(topic, payload, retained))

    def _hand_over(self, event: LinkEvent) -> None:
        try:
            self._deliver(event)
        except Exception:
            log.exception("%s could not be handed over", type(event).__name__)

    @property
    def _name(self) -> str:
        return f"{self.broker.host}:{self.broker.port}"

    def _say_away(self, reason: str) -> None:
        self.trouble = reason
        if reason in self._said:
            return
        self._said.add(reason)
        if self._away:
            log.warning("broker %s can't be reached for another reason now: %s", self._name, reason)
            return
        self._away = True
        log.warning(
            "broker %s is away (%s); trying again for as long as it takes", self._name, reason
        )
