"""Counts the blob bytes in what a device sends to a broker, by reading MQTT as it passes.

MQTT 3.1.1, section 3.3, and MQTT 5.0, section 3.3: a PUBLISH packet is a type, a length, a topic,
a packet identifier unless its QoS is 0, in version 5 properties, and the payload.
"""

from wire.errors import WireError
from wire.transfer import HEADER_BYTES, decode_chunk

_CONNECT, _PUBLISH = 1, 3
_MAX_LENGTH_BYTES = 4


class UploadMeter:
    """The stream of one device, over one connection after the other.

    Args:
        topic: of the device's chunks.
    """

    def __init__(self, topic: str) -> None:
        self._whole_bytes = 0
        self._topic = topic.encode()
        self._buffer = bytearray()
        self._properties = False

    @property
    def blob_bytes(self) -> int:
        """Data of chunks so far: of whole ones, and of those that were begun."""
        begun = self._payload(bytes(self._buffer)) or b""
        return self._whole_bytes + max(0, len(begun) - HEADER_BYTES)

    def begin(self) -> None:
        """A connection begins, and the one before has ended."""
        self._whole_bytes = self.blob_bytes
        self._buffer.clear()

    def feed(self, piece: bytes) -> None:
        """Take what came on the connection."""
        self._buffer += piece
        while (end := _packet_end(self._buffer)) is not None and len(self._buffer) >= end:
            packet = bytes(self._buffer[:end])
            del self._buffer[:end]
            if packet[0] >> 4 == _CONNECT:
                at = 1 + _length_bytes(packet)
                self._properties = packet[at + 6] >= 5  # after the name, which is "MQTT"
            found = self._payload(packet)
            if found is not None:
                self._whole_bytes += _data_bytes(found)

    def _payload(self, packet: bytes) -> bytes | None:
        """Return what there is of a chunk's payload; None if it is no chunk, or not known yet."""
        if len(packet) < 2 or packet[0] >> 4 != _PUBLISH:
            return None
        at = 1 + _length_bytes(packet)
        topic_bytes = int.from_bytes(packet[at : at + 2], "big")
        if packet[at + 2 : at + 2 + topic_bytes] != self._topic:
            return None
        at += 2 + topic_bytes + (2 if packet[0] & 0b110 else 0)
        if self._properties:
            at += 1 + packet[at] if at < len(packet) else 1  # ours are shorter than 128 bytes
        return packet[at:]


def _data_bytes(payload: bytes) -> int:
    try:
        return len(decode_chunk(payload).data)
    except WireError:
        return len(payload)


def _length_bytes(packet: bytes | bytearray) -> int:
    """Return how many bytes the packet's length takes: the last one's highest bit is 0."""
    for at in range(1, 1 + _MAX_LENGTH_BYTES):
        if at >= len(packet) or packet[at] < 0x80:
            return at
    return _MAX_LENGTH_BYTES


def _packet_end(buffer: bytearray) -> int | None:
    """Return where the first packet ends; None if its length isn't here yet."""
    size = 0
    for at in range(_MAX_LENGTH_BYTES):
        if len(buffer) <= 1 + at:
            return None
        size |= (buffer[1 + at] & 0x7F) << (7 * at)
        if buffer[1 + at] < 0x80:
            return 2 + at + size
    return None
