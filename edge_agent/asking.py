"""Requests that wait for their reply, and are repeated until it comes.

An acknowledgement of MQTT only says that the broker has a message. So each request carries an
id, is sent again with growing pauses, and is done when a reply names it.
"""

import itertools
from collections.abc import Callable

from wire.messages import Message, Reply

FIRST_WAIT_S = 3.0
LAST_WAIT_S = 60.0


class _Pending:
    def __init__(self, message: Message, on_reply: Callable[[Reply], None], now: float) -> None:
        self.message = message
        self.on_reply = on_reply
        self.wait_s = FIRST_WAIT_S
        self.due = now + self.wait_s


class Asking:
    """The open requests of one session.

    Args:
        send: publishes a request; whether it worked is of no interest, for it is repeated.
    """

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._open: dict[str, _Pending] = {}
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        return str(next(self._numbers))

    def ask(
        self,
        request_id: str,
        message: Message,
        on_reply: Callable[[Reply], None],
        now: float,
        *,
        first: Message | None = None,
    ) -> None:
        """Send a request and remember it until `answer` gets its reply.

        Args:
            request_id: stands in the message, too.
            message: what is sent, and repeated.
            on_reply: takes the reply.
            now: monotonic time, in seconds.
            first: what is sent the first time instead, where only repetitions differ.
        """
        self._open[request_id] = _Pending(message, on_reply, now)
        self._send(message if first is None else first)

    def answer(self, reply: Reply) -> bool:
        """Hand a reply to whoever asked; False if nobody waits for it (any more)."""
        pending = self._open.pop(reply.re, None)
        if pending is None:
            return False
        pending.on_reply(reply)
        return True

    def tick(self, now: float) -> None:
        """Repeat what is due."""
        for pending in list(self._open.values()):
            if now >= pending.due:
                pending.wait_s = min(pending.wait_s * 2, LAST_WAIT_S)
                pending.due = now + pending.wait_s
                self._send(pending.message)

    def repeat_all(self, now: float) -> None:
        """Send everything again: the link or the hub is back."""
        for pending in self._open.values():
            pending.wait_s = FIRST_WAIT_S
            pending.due = now + FIRST_WAIT_S
            self._send(pending.message)

    def forget(self, *request_ids: str) -> None:
        """Stop asking."""
        for request_id in request_ids:
            self._open.pop(request_id, None)

    def __len__(self) -> int:
        return len(self._open)
