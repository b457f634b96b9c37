"""Keeps out of the rounds whom the door refuses: they are told, and have no effect."""

from collections.abc import Callable

from hub.fleet.door import Door
from hub.fleet.gate import cloned_words
from hub.fleet.notes import Kind
from hub.fleet.sessions import Sessions
from hub.rounds.reception import Reception
from wire.link import Received
from wire.messages import Hello, parse
from wire.topics import Route


class Doorkeeper:
    """Between the broker and the rounds.

    Args:
        door: decides.
        sessions: of all devices.
        reception: tells them.
        gone: called when a device's accepted session ended.
    """

    def __init__(
        self,
        door: Door,
        sessions: Sessions,
        reception: Reception,
        gone: Callable[[str, float], None],
    ) -> None:
        self._door = door
        self._sessions = sessions
        self._reception = reception
        self._gone = gone
        reception.on_clone = self._cloned

    def keeps_out(self, device: str, route: Route, received: Received, now: float) -> bool:
        """Return whether a message must have no effect; its sender is told, and the operator.

        Raises:
            MalformedError: it is a greeting that can't be read.
        """
        refusal = self._door.refusal(device, now)
        if refusal is None:
            return False
        known = self._sessions.devices.get(device)
        if known is not None and known.session is not None:
            self.end_session(device, now)  # its certificate has expired, say
        if route.kind == "request" and route.name == Hello.NAME:
            hello = parse(route, received.payload)
            if isinstance(hello, Hello):
                self._reception.refuse(device, hello, refusal.reason, final=refusal.final)
                self._note("session_refused", device, f"session refused: {refusal.reason}", now)
        elif route.kind not in ("device_state", "device_info"):
            # Those are retained, and a will comes after the refusal: no sign of anything.
            self._note("ignored", device, f"its messages are ignored: {refusal.reason}", now)
        return True

    def end_session(self, device: str, now: float) -> None:
        """End a device's session; if it lives, it greets once more, and is then told why."""
        known = self._sessions.devices.get(device)
        session = known.session if known is not None else None
        if session is None:
            return
        self._sessions.unseat(device)
        self._gone(device, now)
        self._reception.ask_report(device, session)

    def _cloned(self, device: str, now: float) -> str | None:
        """Two live sessions have one identity: return what both are told; None: no certificates."""
        if self._door.enrolment is None:
            return None
        self._door.enrolment.cloned(device, now)
        self._sessions.unseat(device)
        self._gone(device, now)
        return cloned_words(device)

    def _note(self, kind: Kind, device: str, words: str, now: float) -> None:
        if self._door.notes is not None:
            self._door.notes.note(kind, device, words, now)
