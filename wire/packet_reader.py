"""Cuts what a broker sends into MQTT packets, many from one read. Pure: no I/O.

paho reads a packet in five calls, gives the interpreter to another thread in each, and makes some
forty objects of an MQTT 5 message without properties. So a stream of chunks is cut here instead,
and taken apart as far as it consists of messages and of acknowledgements without a complaint. All
other packets are left to paho as they are.

Sources: MQTT 3.1.1 and 5.0 (OASIS), sections 2.1, 3.3 and 3.4.
"""

from collections.abc import Iterator
from typing import NamedTuple

from wire.errors import MalformedError, TooLargeError

_PUBLISH, _PUBACK = 3, 4
_LENGTH_BYTES = 4
#: Of PUBACK: success, and success though nobody listens.
_GOOD = (0x00, 0x10)


class Published(NamedTuple):
    """A message.

    ``packet_id``: to be acknowledged; None: it has QoS 0.
    ``properties_bytes``: of MQTT 5, their own length left out; None: MQTT 3.1.1.
    """

    topic: bytes
    payload: bytes
    retained: bool
    packet_id: int | None
    properties_bytes: int | None


class Acknowledged(NamedTuple):
    """The broker has a message of ours."""

    packet_id: int


Packet = Published | Acknowledged | bytes


class PacketReader:
    """Holds what was read and is no whole packet yet, in a buffer that never grows.

    Args:
        longest_bytes: of a packet; a longer one ends the connection.
        mqtt5: whether a message has properties.
    """

    def __init__(self, longest_bytes: int, *, mqtt5: bool) -> None:
        self._longest_bytes = longest_bytes
        self._mqtt5 = mqtt5
        # Room to read on while a part of the longest packet waits for its end.
        self._buffer = memoryview(bytearray(2 * longest_bytes))
        self._filled = 0

    @property
    def room(self) -> memoryview:
        """Where the next bytes are to be read to; `packets` must have been exhausted."""
        return self._buffer[self._filled :]

    def packets(self, count: int) -> Iterator[Packet]:
        """Yield the packets that are whole once so many bytes were read, in their order.

        Raises:
            TooLargeError: a packet is longer than it may be.
            MalformedError: this isn't MQTT.
        """
        self._filled += count
        at = 0
        while (end := self._end(at)) is not None:
            yield self._packet(at, *end)
            at = sum(end)
        left = self._filled - at
        if at and left:
            self._buffer[:left] = bytes(self._buffer[at : self._filled])
        self._filled = left

    def _end(self, at: int) -> tuple[int, int] | None:
        """Return where a packet's body begins and how long that is; None: it isn't here yet."""
        buffer, size = self._buffer, 0
        for place in range(_LENGTH_BYTES):
            if at + 1 + place >= self._filled:
                return None
            byte = buffer[at + 1 + place]
            size |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                break
        else:
            raise MalformedError("a packet's length has more than four bytes (MQTT, 2.2.3).")
        begin = at + 2 + place
        if begin - at + size > self._longest_bytes:
            raise TooLargeError(
                f"the broker sends a packet of {begin - at + size} bytes; at most "
                f"{self._longest_bytes} are taken."
            )
        return (begin, size) if begin + size <= self._filled else None

    def _packet(self, at: int, begin: int, size: int) -> Packet:
        buffer, first, end = self._buffer, self._buffer[at], begin + size
        if first >> 4 == _PUBACK and (size == 2 or (size == 3 and buffer[begin + 2] in _GOOD)):
            return Acknowledged(_number(buffer, begin))
        if first >> 4 != _PUBLISH or first & 0x04:  # no one of ours has QoS 2
            return bytes(buffer[at:end])
        topic_end = begin + 2 + _number(buffer, begin)
        payload = id_end = topic_end + (2 if first & 0x02 else 0)
        properties_bytes = None
        if self._mqtt5 and id_end < end:
            properties_bytes = buffer[id_end]
            payload += 1 + properties_bytes
            if properties_bytes >= 0x80:  # then their length has two bytes
                return bytes(buffer[at:end])
        if size < 2 or payload > end or (self._mqtt5 and properties_bytes is None):
            raise MalformedError(f"a message of {size} bytes ends before its payload begins.")
        return Published(
            bytes(buffer[begin + 2 : topic_end]),
            bytes(buffer[payload:end]),
            bool(first & 0x01),
            _number(buffer, topic_end) if id_end > topic_end else None,
            properties_bytes,
        )


def _number(buffer: memoryview, at: int) -> int:
    return buffer[at] << 8 | buffer[at + 1]
