"""What one MQTT message turns out to be: a typed message, a chunk, or neither and why."""

from typing import Any

import msgspec

from wire.errors import MalformedError
from wire.messages import MAX_MESSAGE_BYTES, Message, parse
from wire.topics import Route, Topics, fleet_of
from wire.transfer import Chunk, decode_chunk


class Reading(msgspec.Struct, frozen=True):
    """One message of the broker.

    ``route`` is None for a topic that this version doesn't know, ``content`` for a payload that
    it doesn't know or that is empty; ``fault`` says what is wrong with one that it should know.
    """

    topic: str
    payload: bytes
    retained: bool
    fleet: str
    route: Route | None
    content: Message | Chunk | None = None
    fault: str = ""


def read(topic: str, payload: bytes, retained: bool) -> Reading:
    """Return what a message is; nothing that strangers send makes this fail."""
    fleet = fleet_of(topic)
    route = Topics(fleet).parse(topic) if fleet is not None else None
    content: Message | Chunk | None = None
    fault = ""
    if route is not None and payload:
        try:
            chunk = route.kind in Chunk.ROUTES
            content = decode_chunk(payload) if chunk else parse(route, payload)
        except MalformedError as error:
            fault = str(error)
    return Reading(topic, payload, retained, fleet or "", route, content, fault)


def document(reading: Reading) -> dict[str, Any]:
    """Return a message as a JSON document; of a chunk, its header in place of its bytes."""
    made: dict[str, Any] = {"topic": reading.topic, "retained": reading.retained, "payload": None}
    match reading.content:
        case Chunk(key, index, offset, data):
            made["payload"] = {
                "blob": key.hex(), "index": index, "offset": offset, "size_bytes": len(data)
            }  # fmt: skip
        case _ if reading.payload and len(reading.payload) <= MAX_MESSAGE_BYTES:
            try:
                made["payload"] = msgspec.json.decode(reading.payload)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
                made["fault"] = f"not JSON: {error}"
    if reading.fault:
        made["fault"] = reading.fault
    return made
