"""What a link tells: it came up, it went down, a message arrived."""

import logging
import queue
from collections.abc import Callable
from typing import Any

import msgspec

from wire.inbox import Inbox

log = logging.getLogger("wire.link")


class Connected(msgspec.Struct, frozen=True):
    """The broker took us; subscriptions are under way."""


class Disconnected(msgspec.Struct, frozen=True):
    """The broker is away; the link goes on trying."""

    reason: str


class Received(msgspec.Struct, frozen=True):
    """A message arrived."""

    topic: str
    payload: bytes
    retained: bool


LinkEvent = Connected | Disconnected | Received


def bounded(inbox: Inbox, patience_s: float = 5.0) -> Callable[[Any], None]:
    """Return a `Link` delivery that waits for a full queue, then drops.

    Waiting makes TCP slow the sender down; dropping keeps the connection alive. Nothing is lost
    for good: requests, offers and chunks are repeated until they are answered.
    """

    def deliver(event: Any) -> None:
        try:
            inbox.put(event, timeout=patience_s)
        except queue.Full:
            log.warning("inbox full; dropped %s", type(event).__name__)

    return deliver
