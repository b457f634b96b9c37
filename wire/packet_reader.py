"""Cuts what a broker sends into MQTT packets, many from one read. Pure: no I/O.

paho reads a packet in five calls, gives the interpreter to another thread in each, and makes some
forty objects of an MQTT 5 message without properties. So a stream of chunks is cut here instead,
and taken apart as far as it consists of messages and of acknowledgements without a complaint. All
other packets are left to paho as they are.

Sources: MQTT 3.1.1 and 5.0 (OASIS), sections 2.1, 3.3 and 3.4.
"""

from collections.abc import Iterator
from typing import NamedTuple

from wire.errors import MalformedError

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


class PassedOver(NamedTuple):
    """A message that is too long: its payload is dropped as it comes.

    ``packet_id``: to be acknowledged all the same, else a broker would stop after some of them.
    """

    size_bytes: int
    packet_id: int | None


Packet = Published | Acknowledged | PassedOver | bytes


class PacketReader:
    """Holds what was read and is no whole packet yet, in a buffer that never grows.

    Args:
        longest_bytes: of a packet; a longer message is passed over, since anybody may send it.
        mqtt5: whether a message has properties.
    """

    def __init__(self, longest_bytes: int, *, mqtt5: bool) -> None:
        self._longest_bytes = longest_bytes
        self._mqtt5 = mqtt5
        # Room to read on while a part of the longest packet waits for its end.
        self._buffer = memoryview(bytearray(2 * longest_bytes))
        self._filled = 0
        self._skipped_bytes = 0  # of a message that is passed over, still to come

    @property
    def room(self) -> memoryview:
        """Where the next bytes are to be read to; `packets` must have been exhausted."""
        return self._buffer[self._filled :]

    def packets(self, count: int) -> Iterator[Packet]:
        """Yield the packets that are whole once so many bytes were read, in their order.

        Raises:
            MalformedError: this isn't MQTT, or not a broker's.
        """
        self._filled += count
        at = self._skip(0)
        while (found := self._head(at)) is not None:
            begin, size = found
            if begin + size - at > self._longest_bytes:
                passed = self._passed_over(at, begin, size)
                if passed is None:
                    break
                yield passed
                self._skipped_bytes = begin + size - at
                at = self._skip(at)
            elif begin + size <= self._filled:
                yield self._packet(at, begin, size)
                at = begin + size
            else:
                break
        left = self._filled - at
        if at and left:
            self._buffer[:left] = bytes(self._buffer[at : self._filled])
        self._filled = left

    def _skip(self, at: int) -> int:
        """Return where what is not passed over begins, or all that came ends."""
        skipped = min(self._skipped_bytes, self._filled - at)
        self._skipped_bytes -= skipped
        return at + skipped

    def _head(self, at: int) -> tuple[int, int] | None:
        """Return where a packet's body begins and how long that is; None: not known yet."""
        buffer, size = self._buffer, 0
        for place in range(_LENGTH_BYTES):
            if at + 1 + place >= self._filled:
                return None
            byte = buffer[at + 1 + place]
            size |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return at + 2 + place, size
        raise MalformedError("a packet's length has more than four bytes (MQTT, 2.2.3).")

    def _passed_over(self, at: int, begin: int, size: int) -> PassedOver | None:
        """Return what is known of a message that is too long; None: its head isn't here yet."""
        first, whole = self._buffer[at], begin + size - at
        if first >> 4 != _PUBLISH:
            raise MalformedError(f"a packet of type {first >> 4} has {whole} bytes.")
        topic_end = begin + 2 + (_number(self._buffer, begin) if begin + 2 <= self._filled else 0)
        if topic_end + 2 > self._filled:
            return None
        return PassedOver(whole, _number(self._buffer, topic_end) if first & 0x02 else None)

    def _packet(self, at: int, begin: int, size: int) -> Packet:
        buffer, first, end = self._buffer, self._buffer[at], begin + size
        if first >> 4 == _PUBACK and (size == 2 or (size == 3 and buffer[begin + 2] in _GOOD)):
            return Acknowledged(_number(buffer, begin))
        if first >> 4 != _PUBLISH or first & 0x04:  # no one of ours has QoS 2
            return bytes(buffer[at:end])
        if size < 2:
            raise MalformedError(f"a message of {size} bytes has no topic.")
        topic_end = begin + 2 + _number(buffer, begin)
        payload = id_end = topic_end + (2 if first & 0x02 else 0)
        properties_bytes = None
        if self._mqtt5 and id_end < end:
            properties_bytes = buffer[id_end]
            payload += 1 + properties_bytes
            if properties_bytes >= 0x80:  # then their length has two bytes
                return bytes(buffer[at:end])
        if payload > end or (self._mqtt5 and properties_bytes is None):
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
