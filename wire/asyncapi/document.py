"""Builds the AsyncAPI 3 document: channels, messages, and who sends and receives them.

Specification: https://www.asyncapi.com/docs/reference/specification/v3.0.0; MQTT bindings 0.2.0:
https://github.com/asyncapi/bindings/tree/master/mqtt. Whatever stands in neither is told by
extensions: ``x-since`` (the wire version that brought a message), ``x-max-bytes``, ``x-header``.
"""

import json
import re
import struct
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from wire.asyncapi.schemas import REF, schemas_of
from wire.asyncapi.words import Words
from wire.messages import MAX_MESSAGE_BYTES, MAX_RETAINED_BYTES, Message, catalogue
from wire.topics import NAME_PATTERN, SENDERS, Party, template
from wire.transfer import CHUNK_BYTES, HEADER, HEADER_BYTES, Chunk
from wire.version import WIRE_VERSION

_BINDING = "0.2.0"
_PARAMETERS = {
    "fleet": "The hub's fleet.",
    "device": "A device's id.",
    "job": "A job's name.",
    "type": "What happened.",
    "slice": "Which blob of the adapter.",
}
_NAME_RULE = "1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit."
_REPEATED = "_as_inside"
_BLOBS = {
    "slice_chunk": "A chunk of an adapter's blob, sent once for all devices.",
    "upload_chunk": "A chunk of an update.",
    "repair_chunk": "A chunk that this device missed and asked for.",
}


def document(words: Words) -> dict[str, Any]:
    """Return the whole document, ready to be written as YAML or JSON.

    Args:
        words: what the messages' fields mean.
    """
    messages = {kind.__name__: _message(kind) for kind in catalogue()}
    channels = dict(_channels())
    used = {one["$ref"] for channel in channels.values() for one in channel["parameters"].values()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lorikeet's wire",
            "version": str(WIRE_VERSION),
            "description": "What a hub and its devices say to one another over MQTT 3.1.1 or "
            "later. Requests and offers are repeated until they are answered, and each is safe "
            "to receive twice: an acknowledgement by the broker is never taken as delivery. "
            "Unknown fields are ignored. docs/topics.md says the same for people.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {party: _server(party) for party in get_args(Party)},
        "channels": channels,
        "operations": dict(_operations()),
        "components": {
            "messages": messages | {"Chunk": _chunk()},
            "parameters": {
                key: parameter
                for key, parameter in _parameters()
                if f"#/components/parameters/{key}" in used
            },
            "schemas": schemas_of(catalogue(), words),
        },
    }


# Channels


def _by_channel() -> dict[str, list[type[Message]]]:
    """Return the messages of each channel; a command or a request has a channel of its own."""
    found: dict[str, list[type[Message]]] = {}
    for route in SENDERS:
        for kind in catalogue():
            if route == kind.ROUTE:
                found.setdefault(_key(kind), []).append(kind)
    return found


def _key(kind: type[Message]) -> str:
    return f"{kind.ROUTE}_{kind.NAME}".replace("-", "_") if kind.NAME else kind.ROUTE


def _channels() -> Iterator[tuple[str, Any]]:
    for key, kinds in _by_channel().items():
        address = template(kinds[0].ROUTE, kinds[0].NAME)
        yield key, _channel(address, [kind.__name__ for kind in kinds], kinds)
    for route in Chunk.ROUTES:
        yield route, {"description": _BLOBS[route]} | _channel(template(route), ["Chunk"], [])


def _channel(address: str, names: list[str], kinds: list[type[Message]]) -> dict[str, Any]:
    parameters = {}
    for name in re.findall(r"\{(\w+)\}", address):
        repeated = kinds and all(name in kind.__struct_fields__ for kind in kinds)
        key = f"{name}{_REPEATED}" if repeated else name
        parameters[name] = {"$ref": f"#/components/parameters/{key}"}
    return {
        "address": address,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "parameters": parameters,
    }


def _parameters() -> Iterator[tuple[str, Any]]:
    """Yield each variable level of a topic, and the same for messages that repeat it inside."""
    for name, words in _PARAMETERS.items():
        made = {"description": f"{words} {_NAME_RULE}", "x-pattern": f"^{NAME_PATTERN}$"}
        yield name, made
        yield f"{name}{_REPEATED}", made | {"location": f"$message.payload#/{name}"}


# Messages


def _message(kind: type[Message]) -> dict[str, Any]:
    first, _, rest = (msgspec.inspect.type_info(kind).cls.__doc__ or "").partition("\n")  # type: ignore[attr-defined]
    fields = kind.__struct_fields__
    made: dict[str, Any] = {"name": kind.__name__, "summary": first.strip()}
    if rest.strip():
        made["description"] = re.sub(r"\s+", " ", rest).strip()
    if identity := next((field for field in ("re", "id") if field in fields), None):
        made["correlationId"] = {"location": f"$message.payload#/{identity}"}
    return made | {
        "payload": {"$ref": REF.format(name=kind.__name__)},
        "x-since": kind.SINCE,
        "x-max-bytes": MAX_RETAINED_BYTES if kind.RETAIN else MAX_MESSAGE_BYTES,
    }


def _chunk() -> dict[str, Any]:
    fields, at = [], 0
    for field in HEADER:
        size = struct.calcsize(">" + field.format)
        kind = "bytes" if field.format.endswith("s") else f"uint{8 * size}"
        told = {"name": field.name, "at": at, "bytes": size, "type": kind, "meaning": field.meaning}
        fields.append(told | ({"const": field.const} if field.const else {}))
        at += size
    return {
        "name": "Chunk",
        "summary": f"A piece of a blob: {HEADER_BYTES} bytes of header, then the data.",
        "description": f"All chunks of a blob but the last one carry {CHUNK_BYTES} bytes. The "
        "header's integers are big-endian. A blob counts only once its whole sha256 fits.",
        "contentType": "application/octet-stream",
        "payload": {
            "type": "string",
            "format": "binary",
            "minLength": HEADER_BYTES + 1,
            "maxLength": HEADER_BYTES + CHUNK_BYTES,
        },
        "x-since": Chunk.SINCE,
        "x-max-bytes": HEADER_BYTES + CHUNK_BYTES,
        "x-header": {"bytes": HEADER_BYTES, "data-bytes": CHUNK_BYTES, "fields": fields},
    }


# Operations


def _operations() -> Iterator[tuple[str, Any]]:
    """Yield what each party does with each channel: one sends, the other receives."""
    flags = {key: (kinds[0].ROUTE, kinds[0].QOS, kinds[0].RETAIN, kinds)
             for key, kinds in _by_channel().items()}  # fmt: skip
    flags |= {route: (route, Chunk.QOS[route], Chunk.RETAIN, []) for route in Chunk.ROUTES}
    for key, (route, qos, retain, kinds) in flags.items():
        for party in get_args(Party):
            sends = SENDERS[route] == party
            made: dict[str, Any] = {
                "action": "send" if sends else "receive",
                "channel": {"$ref": f"#/channels/{key}"},
                "messages": [
                    {"$ref": f"#/channels/{key}/messages/{name}"}
                    for name in [kind.__name__ for kind in kinds] or ["Chunk"]
                ],
                "tags": [{"name": party}],
                "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": _BINDING}},
            }
            answers = sorted({name for kind in kinds for name in kind.ANSWERS})
            if answers:
                made["reply"] = _reply(answers)
            yield f"{party}_{'sends' if sends else 'receives'}_{key}", made


def _reply(names: list[str]) -> dict[str, Any]:
    key = next(_key(kind) for kind in catalogue() if kind.__name__ == names[0])
    return {
        "channel": {"$ref": f"#/channels/{key}"},
        "messages": [{"$ref": f"#/channels/{key}/messages/{name}"} for name in names],
    }


# Servers


def _server(party: Party) -> dict[str, Any]:
    """Return the broker as one party connects to it: only the last will differs."""
    [kind] = [one for one in catalogue() if one.WILL is not None and SENDERS[one.ROUTE] == party]
    return {
        "host": "{address}",
        "protocol": "mqtt",
        "description": f"The broker, as {'the hub' if party == 'hub' else 'a device'} connects.",
        "variables": {"address": {"default": "127.0.0.1:1883", "description": "host:port"}},
        "bindings": {
            "mqtt": {
                "lastWill": {
                    "topic": template(kind.ROUTE),
                    "qos": kind.QOS,
                    "retain": kind.RETAIN,
                    "message": _will(kind),
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _will(kind: type[Message]) -> str:
    """Return the will as JSON; what differs from one connection to the next is in braces."""
    fixed = kind.WILL or {}
    required = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if field.required or field.name in fixed
    }
    names = [name for name in kind.__struct_fields__ if name in required]
    return json.dumps({name: fixed.get(name, f"{{{name}}}") for name in names})
