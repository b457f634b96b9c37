"""Links against real brokers: started, waited for, broken, stopped."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wire.link import BrokerSettings, Connected, Link


def await_event(inbox: "queue.Queue[Any]", kind: type, timeout_s: float = 20.0) -> Any:
    """Return the next event of a type; others before it are dropped."""
    while True:
        event = inbox.get(timeout=timeout_s)
        if isinstance(event, kind):
            return event


def break_off(link: Link) -> None:
    """Break a link's connection as a cut cable does: no DISCONNECT."""
    assert link._connection is not None
    socket: Any = link._connection.client.socket()
    socket.shutdown(2)


@contextmanager
def connected(
    broker: BrokerSettings | str, *topics: str, **options: Any
) -> Iterator[tuple[Link, "queue.Queue[Any]"]]:
    """Give a link that is connected and subscribed, and its inbox; stop it afterwards."""
    inbox: queue.Queue[Any] = queue.Queue()
    link = Link(broker, options.pop("client_id", "tester"), inbox.put, **options)
    for topic in topics:
        link.subscribe(topic)
    link.start()
    try:
        await_event(inbox, Connected)
        yield link, inbox
    finally:
        link.stop()
