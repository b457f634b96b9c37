"""A queue between the link's thread and the one that owns everything, with a bound.

The standard library's bounded queue takes three locks in Python for each event, as long as handling
a chunk's header takes. Its unbounded one is written in C; what keeps the bound here is only looked
at while the queue is full.
"""

import queue
import threading
from typing import Any


class Inbox:
    """Events, first in, first out; any thread may put and get.

    Args:
        most: events that wait. Each thread that puts may exceed it by one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._full_for = 0  # threads that wait for room

    def put(self, event: Any, timeout: float | None = None) -> None:
        """Add an event, once there is room.

        Raises:
            queue.Full: there was none for so many seconds.
        """
        if self._events.qsize() >= self._most:
            self._wait(timeout)
        self._events.put(event)

    def get(self, timeout: float | None = None) -> Any:
        """Return the next event.

        Raises:
            queue.Empty: none came for so many seconds.
        """
        event = self._events.get(timeout=timeout)
        if self._full_for:
            with self._room:
                self._room.notify_all()
        return event

    def _wait(self, timeout: float | None) -> None:
        with self._room:
            self._full_for += 1
            try:
                if not self._room.wait_for(lambda: self._events.qsize() < self._most, timeout):
                    raise queue.Full
            finally:
                self._full_for -= 1
