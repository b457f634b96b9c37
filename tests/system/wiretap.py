"""Sees every message that passes a broker, as ``mosquitto_sub -t '#'`` would."""

import queue
from typing import Any, TypeVar

from tests.system.hub_process import FLEET, poll
from wire.link import Connected, Link, Received
from wire.messages import Message, parse
from wire.topics import Topics

T = TypeVar("T", bound=Message)


class Wiretap:
    """Everything that was published since it connected, and what was retained before."""

    def __init__(self, broker: str, name: str = "wiretap") -> None:
        self.topics = Topics(FLEET)
        self._received: list[Received] = []
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._connected = False
        self._link = Link(broker, name, self._inbox.put)
        self._link.subscribe("#")
        self._link.start()
        poll("the wiretap's connection", self._is_connected)

    def __enter__(self) -> "Wiretap":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    @property
    def received(self) -> list[Received]:
        """All raw messages so far."""
        self._drain()
        return list(self._received)

    def messages(self, kind: type[T], device: str) -> list[T]:
        """Return a device's messages of a type, in their order."""
        found: list[T] = []
        for one in self.received:
            route = self.topics.parse(one.topic)
            if route is None or route.device != device or route.kind.endswith("_chunk"):
                continue
            message = parse(route, one.payload)
            if isinstance(message, kind):
                found.append(message)
        return found

    def await_message(
        self, kind: type[T], device: str, timeout_s: float = 60.0, after: int = 0, **fields: Any
    ) -> T:
        """Return a device's first message of a type with these fields, waiting for it.

        Args:
            after: so many of the type are passed over.
        """

        def found() -> T | None:
            for one in self.messages(kind, device)[after:]:
                if all(getattr(one, name) == value for name, value in fields.items()):
                    return one
            return None

        message: T = poll(f"{kind.__name__} {fields} of {device}", found, timeout_s)
        return message

    def _is_connected(self) -> bool:
        self._drain()
        return self._connected

    def _drain(self) -> None:
        while True:
            try:
                event = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(event, Received):
                self._received.append(event)
            elif isinstance(event, Connected):
                self._connected = True
