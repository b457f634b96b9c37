"""What leaves by one connection: checked against the broker's limits, paced, and counted.

With `wire/connection.py`, `wire/mqtt_greeting.py` and `wire/network_loop.py` the only file that
imports paho.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from wire.broker_pace import Pace
from wire.broker_profile import Profile, Version
from wire.mqtt_sizes import ACK_BYTES, publish_bytes
from wire.network_loop import FedClient

#: Messages that wait in memory for the broker; more are refused, and asked for again by whoever
#: needs them.
MAX_QUEUED = 500
_EXPIRY_BYTES = 5  # of a message's expiry interval (MQTT 5, 3.3.2.3.3): identifier and 4 bytes


class Traffic:
    """Bytes of MQTT packets, of all connections of a link.

    Each counter has one writer at a time (a thread, or whoever holds `Outbox`'s lock), so they
    need no lock of their own.
    """

    def __init__(self) -> None:
        self.up_of_callers = 0
        self.down_of_callers = 0  # acknowledgements of what they publish
        self.up_of_network = 0
        self.down_of_network = 0

    @property
    def up(self) -> int:
        return self.up_of_callers + self.up_of_network

    @property
    def down(self) -> int:
        return self.down_of_callers + self.down_of_network


class _Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    expiry_s: int | None


class Outbox:
    """Publishes for one connection.

    Args:
        client: connected, or about to be.
        version: of MQTT.
        limits: of the broker; narrowed when it accepts the connection.
        traffic: where bytes are counted.
        write: lets what was handed to the client leave, and behind it the given parts of packets.
    """

    def __init__(
        self,
        client: FedClient,
        version: Version,
        limits: Profile,
        traffic: Traffic,
        write: Callable[[Sequence[bytes]], None],
    ) -> None:
        self.limits = limits
        self._client = client
        self._version = version
        self._traffic = traffic
        self._write = write
        # Two counters, each with its lock. One lock for publish() and paho's on_publish would
        # deadlock: paho calls that one with its own mutex held.
        self._published = 0
        self._settled = 0
        self._settling = threading.Lock()  # nothing else is done while it is held
        self._topics: dict[int, str] = {}  # by packet id, until the broker answers
        self._pace = Pace(limits.publishes_per_s, limits.bytes_per_s)
        self._waiting: deque[_Message] = deque()
        self._parts: list[bytes] = []  # of packets that leave next
        self._lock = threading.Lock()  # never taken in a callback of paho

    @property
    def in_flight(self) -> int:
        """Messages that wait here, or for the broker's acknowledgement."""
        return max(0, self._published - self._settled) + len(self._waiting)

    def publish(
        self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None
    ) -> bool:
        """Hand a message over, with as much of this as the broker has; False if too many wait.

        Raises:
            TooLargeError: the broker would drop the connection.
        """
        limits = self.limits
        limits.check(topic, len(payload), retain=retain)
        qos, retain = min(qos, limits.max_qos), retain and limits.retain
        with self._lock:
            taken = self._take(_Message(topic, payload, qos, retain, expiry_s))
            parts, self._parts = self._parts, []
        if taken:
            self._write(parts)  # without the lock: it may call `settled`
        return taken

    def publish_together(self, topic: str, payloads: Sequence[bytes]) -> int:
        """Hand messages at QoS 0 over that leave by one call; return how many are taken.

        Raises:
            TooLargeError: the broker would drop the connection.
        """
        for payload in payloads:
            self.limits.check(topic, len(payload))
        taken = 0
        with self._lock:
            for payload in payloads:
                if not self._take(_Message(topic, payload, 0, False, None)):
                    break
                taken += 1
            parts, self._parts = self._parts, []
        if taken:
            self._write(parts)
        return taken

    def send_waiting(self, longest_s: float) -> float:
        """Send what the pace allows by now; return after how many seconds to look again."""
        with self._lock:
            while self._waiting:
                size, now = self._size(self._waiting[0]), time.monotonic()
                wait_s = self._pace.wait_s(size, now)
                if wait_s > 0:
                    return min(wait_s, longest_s)
                self._hand_over(self._waiting.popleft(), size, now)
                if self._parts:
                    self._client.queue(self._parts)
                    self._parts = []
        return longest_s

    def settled(self, packet_id: int) -> str:
        """Count a message as done with: acknowledged, or written if it has QoS 0.

        Returns:
            its topic; "a message" if the answer came before that was noted.
        """
        with self._settling:
            self._settled += 1
        return self._topics.pop(packet_id, "a message")

    def _take(self, message: _Message) -> bool:
        size, now = self._size(message), time.monotonic()
        if not self._waiting and self._pace.wait_s(size, now) <= 0:
            return self._hand_over(message, size, now)
        if len(self._waiting) >= MAX_QUEUED:
            return False
        self._waiting.append(message)
        return True

    def _hand_over(self, message: _Message, size_bytes: int, now: float) -> bool:
        topic, payload, qos, retain, expiry_s = message
        if qos == 0 and not retain and expiry_s is None:
            if self._client.socket() is None:
                return False
            self._parts += (self._client.head(topic.encode(), len(payload)), payload)
            self._traffic.up_of_callers += size_bytes
            self._pace.sent(size_bytes, now)
            return True
        properties = None
        if expiry_s is not None and self._version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        self._published += 1
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            self._published -= 1
            return False
        if qos:
            self._topics[info.mid] = topic
            self._traffic.down_of_callers += ACK_BYTES
        self._traffic.up_of_callers += size_bytes
        self._pace.sent(size_bytes, now)
        return True

    def _size(self, message: _Message) -> int:
        properties_bytes = None
        if self._version == "5":
            properties_bytes = 0 if message.expiry_s is None else _EXPIRY_BYTES
        return publish_bytes(message.topic, len(message.payload), message.qos, properties_bytes)
