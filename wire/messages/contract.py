"""What every message is: a frozen typed struct that knows its topic, QoS and retain flag.

Messages are JSON (RFC 8259). Unknown fields are ignored, so that a newer peer can add one;
missing or mistyped fields raise `MalformedError` with the field's path.
"""

from typing import Any, ClassVar, TypeVar

import msgspec

from wire.errors import MalformedError, TooLargeError

#: The largest message that is parsed. AWS IoT Core takes 128 KB in one publish.
MAX_MESSAGE_BYTES = 128 * 1024
#: The largest retained document that is published (Azure Event Grid's limit is 64 KB).
MAX_RETAINED_BYTES = 8 * 1024


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages.

    Class attributes:
        ROUTE: the method of `wire.topics.Topics` that spells the topic.
        NAME: last level of the topic where several types share a route (op, command, event).
        QOS: MQTT quality of service, 0 or 1.
        RETAIN: whether the broker keeps the last one.
        SINCE: the wire version that brought it.
        WILL: what the fields are in the sender's last will; None where there is none.
        ANSWERS: the names of the replies that may answer it.
    """

    ROUTE: ClassVar[str]
    NAME: ClassVar[str | None] = None
    QOS: ClassVar[int] = 1
    RETAIN: ClassVar[bool] = False
    SINCE: ClassVar[int] = 1
    WILL: ClassVar[dict[str, Any] | None] = None
    ANSWERS: ClassVar[tuple[str, ...]] = ()


M = TypeVar("M")
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(message: Message) -> bytes:
    """Return the message as JSON bytes, keys in declared order.

    Raises:
        TooLargeError: it is larger than a broker need accept.
    """
    payload = _encoder.encode(message)
    limit = MAX_RETAINED_BYTES if message.RETAIN else MAX_MESSAGE_BYTES
    if len(payload) > limit:
        raise TooLargeError(
            f"{type(message).__name__} has {len(payload)} bytes; at most {limit} may be published."
        )
    return payload


def decode(payload: bytes, kind: type[M]) -> M:
    """Return the message of the given type; ``kind`` may be a tagged union.

    Raises:
        TooLargeError: more than `MAX_MESSAGE_BYTES`; nothing was parsed.
        MalformedError: not JSON, or a field is missing or has the wrong type.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise TooLargeError(
            f"a message has {len(payload)} bytes; at most {MAX_MESSAGE_BYTES} are read."
        )
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error
