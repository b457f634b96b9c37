"""A faulty line between a device and the broker: spoils chunks, or stops at a byte of one.

It reads MQTT just so far as to tell packets apart and chunks from the rest; what is no chunk
passes as it came. It knows no version: a chunk begins with its magic, whatever stands before.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Literal

PUBLISH = 3
_CHUNK = b"LKC1"
#: A line that was silent for so long brings what it held back.
_IDLE_S = 0.03

Way = Literal["up", "down"]
Spoiler = Callable[[list[bytes]], list[bytes]]


def packet(kind: int, body: bytes) -> bytes:
    """Return an MQTT packet: first byte, remaining length (3.1.1, section 2.2.3), the rest."""
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind]) + bytes(digits) + body


def split_packet(data: bytearray) -> tuple[int, bytes] | None:
    """Take one packet off the front of what came: first byte and body; None: not all is here."""
    length = 0
    for at in range(1, min(len(data), 5)):
        length |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] < 0x80:
            end = at + 1 + length
            if len(data) < end:
                return None
            kind, body = data[0], bytes(data[at + 1 : end])
            del data[:end]
            return kind, body
    return None


class Line:
    """One direction of one connection: packets in, what leaves of them out.

    Args:
        relay: whose faults apply.
        way: up to the broker, or down from it.
    """

    def __init__(self, relay: "FaultyRelay", way: Way) -> None:
        self._relay = relay
        self._way = way
        self._buffer = bytearray()
        self._held: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return what is to be sent on, given what came; nothing came: what was held back."""
        self._buffer += data
        out: list[bytes] = []
        while (found := split_packet(self._buffer)) is not None:
            kind, body = found
            whole = packet(kind, body)
            spoil = self._relay.spoilers.get(self._way)
            if kind >> 4 != PUBLISH or _CHUNK not in body or spoil is None:
                out.append(whole)
                continue
            self._held.append(whole)
            if len(self._held) >= self._relay.hold:
                out += self._release(spoil)
        if not data:
            spoil = self._relay.spoilers.get(self._way)
            if spoil is not None and self._held:
                out += self._release(spoil)
        return out

    def _release(self, spoil: Spoiler) -> list[bytes]:
        held, self._held = self._held, []
        spoiled = spoil(held)
        self._relay.spoiled[self._way] += spoiled != held
        return spoiled


class FaultyRelay:
    """Forwards each connection to a broker on loopback, with its faults.

    Args:
        port: of the broker; it may go away and come back.

    Attributes:
        spoilers: by way: takes packets that hold chunks and returns what takes their place.
        hold: how many such packets are gathered before the spoiler gets them.
        passed: by way: bytes of packets that hold chunks.
        spoiled: by way: how often a spoiler changed something.
        struck: set once what `strike` announced has happened.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.spoilers: dict[Way, Spoiler] = {}
        self.hold = 1
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.spoiled: dict[Way, int] = {"up": 0, "down": 0}
        self.struck = threading.Event()
        self._strikes: dict[Way, tuple[int, Callable[[], None]]] = {}
        self._cut = threading.Event()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def strike(self, way: Way, at_byte: int, action: Callable[[], None]) -> None:
        """Do something once, when so many bytes of chunks have passed: in the middle of one.

        Args:
            way: up or down.
            at_byte: counted over all packets that hold chunks, from now on.
            action: called on the relay's thread before the next byte passes.
        """
        self._strikes[way] = (self.passed[way] + at_byte, action)

    def cut(self) -> None:
        """Break every connection, and take no new one."""
        self._cut.set()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                client.settimeout(None)
                if self._cut.is_set():
                    client.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            broker = socket.create_connection(("127.0.0.1", self._target))
            with broker:
                self._forward({client: broker, broker: client}, client)

    def _forward(self, other: dict[socket.socket, socket.socket], client: socket.socket) -> None:
        ways: dict[socket.socket, Way] = {
            side: "up" if side is client else "down" for side in other
        }
        lines = {side: Line(self, way) for side, way in ways.items()}
        while not self._closing.is_set() and not self._cut.is_set():
            ready, _, _ = select.select(list(other), [], [], _IDLE_S)
            for side in ready or list(other):
                data = side.recv(65536) if side in ready else b""
                if side in ready and not data:
                    return
                for one in lines[side].feed(data):
                    self._send(ways[side], other[side], one)

    def _send(self, way: Way, to: socket.socket, whole: bytes) -> None:
        if _CHUNK not in whole:
            to.sendall(whole)
            return
        at, action = self._strikes.get(way, (None, None))
        begin = self.passed[way]
        self.passed[way] += len(whole)
        if at is None or action is None or not begin <= at < begin + len(whole):
            to.sendall(whole)
            return
        to.sendall(whole[: at - begin])
        del self._strikes[way]
        action()
        self.struck.set()
        if not self._cut.is_set():
            to.sendall(whole[at - begin :])
