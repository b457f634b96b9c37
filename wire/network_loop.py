"""What happens on one connection's socket: reads for paho, and writes at once.

A chunk's way to the hub crosses four threads of two processes, and on a busy machine each change
of thread costs more than the chunk. So whoever publishes writes to the socket himself, as far as it
takes that; and what comes is cut into packets by `wire.packet_reader`. WebSocket stays with
paho's own loop: its frames are not ours to read.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from wire.errors import WireError
from wire.packet_reader import Acknowledged, Packet, PacketReader, PassedOver, Published

#: Reads in a row before it is looked whether something is to be written.
_READS = 8
#: Whoever takes what came may take his time; so long, in seconds, answers and pings wait for him.
_PATIENCE_S = 1.0
_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


class FedClient(mqtt.Client):
    """A paho client that is fed with whole packets; until the first one it reads by itself."""

    _feed: bytes | OSError | None = None
    _at_end = False

    def head(self, topic: bytes, payload_bytes: int) -> bytes:
        """Return what stands before the payload of a message at QoS 0 without properties."""
        empty = b"\0" if self.protocol == mqtt.MQTTv5 else b""
        head = bytearray((mqtt.PUBLISH,))
        self._pack_remaining_length(head, 2 + len(topic) + len(empty) + payload_bytes)
        return b"".join((head, len(topic).to_bytes(2, "big"), topic, empty))

    def queue(self, parts: Sequence[bytes]) -> None:
        """Let whole packets leave behind those that wait, nobody being told that they were written.

        paho would copy a payload three times, and make a reason code and a set of properties to
        say so.
        """
        # Told that it has QoS 1, paho calls nobody back; what is sent says QoS 0.
        self._packet_queue(mqtt.PUBLISH, b"".join(parts), 0, 1)

    def write(self, parts: Sequence[bytes]) -> None:
        """Write whole packets at once, if none waits; what the socket doesn't take, waits.

        Only one thread at a time may write.
        """
        connection: Any = self.socket()
        try:
            written = 0 if self.want_write() else connection.sendmsg(parts)
        except (OSError, AttributeError):  # full, broken or gone: the loop will see
            written = 0
        if written == 0:
            self.queue(parts)
            return
        if written < sum(map(len, parts)):
            rest = b"".join(parts)[written:]
            # Before what another thread may have let wait since.
            self._out_packet.appendleft({
                "command": mqtt.PUBLISH, "mid": 0, "qos": 1, "pos": 0, "to_process": len(rest),
                "packet": rest, "info": None,
            })  # fmt: skip
        with self._msgtime_mutex:
            self._last_msg_out = mqtt.time_func()

    def acknowledge(self, packet_id: int) -> None:
        """Queue the acknowledgement of a message at QoS 1."""
        self._send_puback(packet_id)

    def acknowledged(self, packet_id: int) -> None:
        """Note that the broker has a message, without a reason code and properties made anew."""
        with self._out_message_mutex:
            if packet_id in self._out_messages:
                self._do_on_publish(packet_id, _SUCCESS, _NO_PROPERTIES)

    def heard(self) -> None:
        """Note that something came: what paho doesn't read itself keeps its connection alive, too.

        Else it would ask for a sign of life in the middle of a transfer, and give the connection
        up while the answer waits behind what is being sent.
        """
        with self._msgtime_mutex:
            self._last_bytes_received = mqtt.time_func()

    def feed(self, packet: bytes | OSError) -> int:
        """Let paho handle one packet, or the reason why no more will come; return its code."""
        self._feed = packet
        return int(self.loop_read())

    def feed_end(self) -> int:
        """Let paho handle that the broker closed the connection; return its code."""
        self._at_end = True
        return self.feed(b"")

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._feed is None:
            return super()._sock_recv(bufsize)
        if isinstance(self._feed, OSError):
            raise self._feed
        if not self._feed and not self._at_end:
            raise BlockingIOError
        taken, self._feed = self._feed[:bufsize], self._feed[bufsize:]
        return taken


class NetworkLoop:
    """Reads and writes for one client, from its connection to its end.

    Args:
        client: connected, without a WebSocket.
        longest_bytes: of a packet that may come.
        mqtt5: which version it speaks.
        arrived: called with the number of bytes after each read.
        published: takes each message that is not left to paho; it is acknowledged already.
        passed_over: told the size in bytes of each message that is too long.
        handled: called after each packet that is, outside of paho's callbacks.
    """

    def __init__(
        self,
        client: FedClient,
        longest_bytes: int,
        *,
        mqtt5: bool,
        arrived: Callable[[int], None],
        published: Callable[[Published], None],
        passed_over: Callable[[int], None],
        handled: Callable[[], None],
    ) -> None:
        self._client = client
        self._reader = PacketReader(longest_bytes, mqtt5=mqtt5)
        self._arrived = arrived
        self._published = published
        self._passed_over = passed_over
        self._handled = handled
        self._writing = threading.Lock()
        self._thread = threading.get_ident()
        self._served = time.monotonic()  # when what waits to be written was last looked at
        # OpenSSL must not be called for one connection by two threads at a time.
        self._secure = isinstance(client.socket(), ssl.SSLSocket)
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)

    def close(self) -> None:
        """Close what only the loop uses."""
        self._bell.close()
        self._ringer.close()

    def turn(self, longest_s: float) -> bool:
        """Wait until something can be read or written, and do that; False: it is over.

        Args:
            longest_s: how long to wait.
        """
        client = self._client
        connection: Any = client.socket()
        if connection is None:
            return False
        pending = self._secure and connection.pending() > 0
        writes = [connection] if client.want_write() else []
        wait_s = 0.0 if pending else longest_s
        try:
            readable, writable = _wait([connection, self._bell], writes, wait_s)
        except (OSError, ValueError):  # a writer found the connection broken, and closed it
            return False
        self._served = time.monotonic()
        if self._bell in readable:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
        if (pending or connection in readable) and not self._read(connection):
            return False
        if client.want_write() and (writable or self._bell in readable or not writes):
            with self._writing:
                if client.loop_write() != mqtt.MQTT_ERR_SUCCESS:
                    return False
        return client.socket() is not None and client.loop_misc() == mqtt.MQTT_ERR_SUCCESS

    def write(self, parts: Sequence[bytes] = ()) -> None:
        """Write what waits, from any thread, as far as the socket takes it.

        Args:
            parts: of whole packets, behind that.
        """
        client, mine = self._client, threading.get_ident() == self._thread
        if mine or self._secure or not self._writing.acquire(blocking=False):
            if parts:
                client.queue(parts)
            if not mine:  # else it does so in its next turn; and a callback may hold paho's locks
                self.ring()
            return
        try:
            if client.want_write():
                client.loop_write()
            if parts:
                client.write(parts)
        finally:
            self._writing.release()
        if client.socket() is None or client.want_write():
            self.ring()

    def ring(self) -> None:
        """Let the loop look at what there is, from any thread."""
        with contextlib.suppress(OSError):
            self._ringer.send(b"\0")

    def _read(self, connection: Any) -> bool:
        for _ in range(_READS):
            room = self._reader.room
            try:
                count = connection.recv_into(room)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                return self._client.feed(error) == mqtt.MQTT_ERR_SUCCESS
            if not self._take(count):
                return False
            if count < len(room) and not self._secure:
                break  # that was all; of TLS, it was one record
            if time.monotonic() - self._served > _PATIENCE_S:
                break
        return True

    def _take(self, count: int) -> bool:
        """Handle what so many bytes made whole; none at all are the end."""
        if count == 0:
            return self._client.feed_end() == mqtt.MQTT_ERR_SUCCESS
        self._client.heard()
        self._arrived(count)
        try:
            return all(
                self._handle(packet) and self._serve() for packet in self._reader.packets(count)
            )
        except WireError as error:
            return self._client.feed(OSError(str(error))) == mqtt.MQTT_ERR_SUCCESS

    def _serve(self) -> bool:
        """Write what waits, and keep the connection alive, if handing over took long."""
        if time.monotonic() - self._served < _PATIENCE_S:
            return True
        with self._writing:
            if self._client.loop_write() != mqtt.MQTT_ERR_SUCCESS:
                return False
        self._served = time.monotonic()
        return self._client.loop_misc() == mqtt.MQTT_ERR_SUCCESS

    def _handle(self, packet: Packet) -> bool:
        client = self._client
        match packet:
            case Published():
                if packet.packet_id is not None:
                    client.acknowledge(packet.packet_id)
                self._published(packet)
            case PassedOver():
                if packet.packet_id is not None:
                    client.acknowledge(packet.packet_id)
                self._passed_over(packet.size_bytes)
            case Acknowledged():
                client.acknowledged(packet.packet_id)
            case _:
                code = client.feed(packet)
                self._handled()
                return code == mqtt.MQTT_ERR_SUCCESS and client.socket() is not None
        return True


def _wait(reads: list[Any], writes: list[Any], longest_s: float) -> tuple[list[Any], list[Any]]:
    """Return which sockets can be read, and which can be written.

    Unlike select, poll knows no greatest descriptor: a hub with many downloads has high ones.
    """
    if not hasattr(select, "poll"):
        readable, writable, _ = select.select(reads, writes, [], longest_s)
        return readable, writable
    polled = select.poll()
    for one in {*reads, *writes}:
        events = (select.POLLIN if one in reads else 0) | (select.POLLOUT if one in writes else 0)
        polled.register(one, events)
    found = dict(polled.poll(longest_s * 1000))
    broken = select.POLLERR | select.POLLHUP | select.POLLNVAL
    return (
        [one for one in reads if found.get(one.fileno(), 0) & (select.POLLIN | broken)],
        [one for one in writes if found.get(one.fileno(), 0) & (select.POLLOUT | broken)],
    )
