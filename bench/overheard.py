"""Where a device's bytes go: the frames on its cable, taken apart into MQTT messages.

Read by the specifications, not by our own code or paho's: Ethernet II, IPv4 (RFC 791), TCP (RFC
9293), MQTT 3.1.1 and 5.0 (sections 2 and 3). Pure: frames and times in, bytes of each kind out.
"""

import re
from typing import NamedTuple

import msgspec

_MQTT_PORT = 1883
_ETHERNET_BYTES = 14
_PUBLISH = 3
_KINDS = {
    1: "connect", 2: "connect", 4: "puback", 8: "subscribe", 9: "subscribe", 12: "ping",
    13: "ping", 14: "connect",
}  # fmt: skip
_TOPICS = (
    (re.compile(r"^[^/]+-data/v1/[^/]+/(?:d|job)/[^/]+/(.+)$"), "chunk "),
    (re.compile(r"^[^/]+/v1/[^/]+/d/[^/]+/(?:up|down)/(.+)$"), ""),
    (re.compile(r"^[^/]+/v1/[^/]+/(?:d|job)/[^/]+/(.+)$"), ""),
    (re.compile(r"^[^/]+/v1/[^/]+/(hub/state)$"), ""),
)


class Heard(NamedTuple):
    """Bytes of one kind that passed at one time."""

    at: float  # Unix time, seconds
    up: bool  # from the device
    kind: str
    size_bytes: int
    payload_bytes: int  # of these, what MQTT carried


class _Stream:
    """One direction of a TCP connection, put together from its segments."""

    def __init__(self) -> None:
        self.next: int | None = None
        self.held = b""
        self.early: dict[int, bytes] = {}

    def add(self, sequence: int, data: bytes) -> int:
        """Take a segment's data; return how many of its bytes had come before."""
        if self.next is None:
            self.next = sequence
        ahead = (sequence - self.next) & 0xFFFFFFFF
        again = 0
        if ahead >= 1 << 31:  # behind: (partly) sent again
            again = min(len(data), (1 << 32) - ahead)
            data = data[again:]
            ahead = 0
        if ahead:
            self.early[sequence] = data
            return again
        self._append(data)
        while self.next in self.early:
            self._append(self.early.pop(self.next))
        return again

    def _append(self, data: bytes) -> None:
        self.held += data
        self.next = ((self.next or 0) + len(data)) & 0xFFFFFFFF


class Overheard:
    """What passed on one device's cable, by kind.

    Args:
        device_mac: of the device's end, six bytes.
    """

    def __init__(self, device_mac: bytes) -> None:
        self._mac = device_mac
        self._streams: dict[tuple[bytes, bytes, int, int], _Stream] = {}
        self.heard: list[Heard] = []

    def frame(self, frame: bytes, at: float) -> None:
        """Take a whole Ethernet frame; one that isn't TCP over IPv4 counts as "other"."""
        up = frame[6:12] == self._mac
        ip = frame[_ETHERNET_BYTES:]
        if frame[12:14] != b"\x08\x00" or len(ip) < 40 or ip[9] != 6:
            self._note(at, up, "other", len(frame))
            return
        tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")]
        data = tcp[(tcp[12] >> 4) * 4 :]
        ports = int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big")
        headers = len(frame) - len(data)
        if not data:
            self._note(at, up, "TCP: bare acknowledgements", headers)
            if tcp[13] & 2:  # SYN: a new connection, maybe from a port that had one
                stream = self._streams[ip[12:16], ip[16:20], *ports] = _Stream()
                stream.next = (int.from_bytes(tcp[4:8], "big") + 1) & 0xFFFFFFFF
            return
        self._note(at, up, "TCP: headers of segments with data", headers)
        if _MQTT_PORT not in ports:
            self._note(at, up, "HTTP", len(data))
            return
        stream = self._streams.setdefault((ip[12:16], ip[16:20], *ports), _Stream())
        again = stream.add(int.from_bytes(tcp[4:8], "big"), data)
        if again:
            self._note(at, up, "TCP: sent again", again)
        self._packets(stream, at, up)

    def _packets(self, stream: _Stream, at: float, up: bool) -> None:
        while (found := _packet(stream.held)) is not None:
            first, body, size = found
            stream.held = stream.held[size:]
            if first >> 4 != _PUBLISH:
                self._note(at, up, f"MQTT: {_KINDS.get(first >> 4, 'other')}", size)
                continue
            end = 2 + int.from_bytes(body[:2], "big")
            kind = _kind(body[2:end].decode(errors="replace"), body)
            payload = len(body) - end - (2 if first >> 1 & 3 else 0)
            self._note(at, up, kind, size, payload)

    def _note(self, at: float, up: bool, kind: str, size: int, payload: int = 0) -> None:
        self.heard.append(Heard(at, up, kind, size, payload))


class Share(msgspec.Struct, frozen=True):
    """What all of one kind took."""

    count: int
    size_bytes: int
    payload_bytes: int


def shares(heard: list[Heard], *, up: bool, since: float, until: float) -> dict[str, Share]:
    """Return what each kind took in one direction within a time, the largest first."""
    found: dict[str, Share] = {}
    for one in heard:
        if one.up == up and since <= one.at <= until:
            old = found.get(one.kind, Share(0, 0, 0))
            found[one.kind] = Share(
                old.count + 1,
                old.size_bytes + one.size_bytes,
                old.payload_bytes + one.payload_bytes,
            )
    return dict(sorted(found.items(), key=lambda item: -item[1].size_bytes))


def _packet(data: bytes) -> tuple[int, bytes, int] | None:
    """Return the first byte, the body and the size of the packet that data begins with."""
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
    return data[0], data[at : at + remaining], at + remaining


def _kind(topic: str, body: bytes) -> str:
    for pattern, before in _TOPICS:
        match = pattern.match(topic)
        if match:
            name = before + match[1]
            told = re.search(rb'"type":"([a-z]+)"', body) if name == "res" else None
            return f"{name} {told[1].decode()}" if told else name
    return "another topic"
