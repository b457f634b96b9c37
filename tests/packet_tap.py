"""A wire between client and broker that sees each MQTT packet pass, and can be counted and cut.

Packets are taken apart here by the specification (MQTT 3.1.1 and 5.0, sections 2 and 3), not by our
code or paho's.
"""

import contextlib
import socket
import threading
import time
from typing import NamedTuple

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ = 1, 2, 3, 4, 8, 9, 12


class Packet(NamedTuple):
    """One packet on its way."""

    connection: int
    up: bool  # from the client
    at: float  # monotonic
    kind: int
    flags: int
    body: bytes  # without the fixed header
    size_bytes: int  # with it

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def topic(self) -> str:
        """Of a PUBLISH."""
        length = int.from_bytes(self.body[:2], "big")
        return self.body[2 : 2 + length].decode()

    @property
    def packet_id(self) -> int:
        """Of a PUBLISH with QoS 1, a PUBACK or a SUBSCRIBE."""
        at = 2 + int.from_bytes(self.body[:2], "big") if self.kind == PUBLISH else 0
        return int.from_bytes(self.body[at : at + 2], "big")


def parse(data: bytes) -> tuple[int, int, bytes, int] | None:
    """Return kind, flags, body and size of the packet that data begins with; None if it is cut."""
    remaining, shift, at = 0, 0, 1
    while True:
        if at >= len(data):
            return None
        remaining |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            break
    if len(data) < at + remaining:
        return None
    return data[0] >> 4, data[0] & 15, data[at : at + remaining], at + remaining


class PacketTap:
    """Listens on a port of its own and passes everything on to a broker's.

    Args:
        port: the broker's, on loopback.
        encrypted: bytes are only counted.
        slow: what comes up is read in small pieces, with small buffers, as a thin link takes it.
    """

    def __init__(self, port: int, *, encrypted: bool = False, slow: bool = False) -> None:
        self._to = port
        self._encrypted = encrypted
        self._piece_bytes = 4096 if slow else 65536
        self._listener = socket.create_server(("127.0.0.1", 0))
        if slow:  # taken over by what it accepts
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port = self._listener.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.connections = 0
        self._lock = threading.Lock()
        self._packets: list[Packet] = []
        self._bytes = {True: 0, False: 0}
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "PacketTap":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for one in self._sockets:
            one.close()

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):  # it may have ended by itself
                    one.shutdown(socket.SHUT_RDWR)

    def bytes(self, *, up: bool) -> int:
        """Return how many bytes passed."""
        with self._lock:
            return self._bytes[up]

    def packets(self, *kinds: int, up: bool | None = None) -> list[Packet]:
        """Return the packets that passed, in their order; all if no kind is given."""
        with self._lock:
            return [
                one
                for one in self._packets
                if (not kinds or one.kind in kinds) and up in (None, one.up)
            ]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                broker = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            for one in (client, broker):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [client, broker]
            for source, sink, up in ((client, broker, True), (broker, client, False)):
                thread = threading.Thread(
                    target=self._pump, args=(self.connections, source, sink, up), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(self, connection: int, source: socket.socket, sink: socket.socket, up: bool) -> None:
        held = b""
        while True:
            try:
                data = source.recv(self._piece_bytes)
                if not data:
                    break
                held = self._note(connection, up, held, data)
                sink.sendall(data)
            except OSError:
                break
        for one in (source, sink):
            with contextlib.suppress(OSError):  # the other direction may have ended first
                one.shutdown(socket.SHUT_RDWR)

    def _note(self, connection: int, up: bool, held: bytes, data: bytes) -> bytes:
        with self._lock:
            self._bytes[up] += len(data)
            if self._encrypted:
                return b""
            held += data
            while (found := parse(held)) is not None:
                kind, flags, body, size = found
                held = held[size:]
                now = time.monotonic()
                self._packets.append(Packet(connection, up, now, kind, flags, body, size))
            return held
