"""Enrolment as a running hub has it: the desk, the gate, the notes, the broker beside the hub.

Used on the coordinator's thread. Without enrolment (`Door.unguarded`) everybody may enter.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from hub.fleet.broker_folder import BrokerFolder
from hub.fleet.enrolment import Enrolment
from hub.fleet.gate import Gate, Refusal
from hub.fleet.notes import Notes

log = logging.getLogger(__name__)

#: The broker's log is looked at so often, and the hub's own certificates.
LOG_S = 2.0
CERTIFICATES_S = 6 * 3600.0
AGAIN_S = 300.0  # after a failure that may pass, such as a full disk
#: Who was revoked is told why, and then thrown out of the broker.
LAST_WORD_S = 5.0
_MAX_LINE = 300
#: What a broker says of a port scanner, or of a probe that connects and goes.
_PROBES = ("unexpected eof", "wrong version number")


class Door:
    """Who may enter.

    Args:
        gate: decides on each message.
        notes: for the operator; None without enrolment.
        enrolment: the desk; None without.
        broker: the folder of a broker beside the hub; None: there is none.
        renew: renews the hub's own certificates where they are due; told the time.
        evict: throws clients out of the broker, by their ids.
    """

    def __init__(
        self,
        gate: Gate,
        notes: Notes | None = None,
        enrolment: Enrolment | None = None,
        broker: BrokerFolder | None = None,
        *,
        renew: Callable[[float], None] = lambda _: None,
        evict: Callable[[list[str]], None] = lambda _: None,
    ) -> None:
        self.gate = gate
        self.notes = notes
        self.enrolment = enrolment
        self.broker = broker
        self._renew = renew
        self._evict = evict
        self._evictions: list[tuple[float, list[str]]] = []
        self._shown_out: list[str] = []  # the last ones
        self._next_log = 0.0
        self._next_certificates = 0.0

    @classmethod
    def unguarded(cls) -> "Door":
        """Return a door through which everybody may go."""
        return cls(Gate(None))

    @property
    def guarded(self) -> bool:
        return self.enrolment is not None

    def refusal(self, device: str, now: float) -> Refusal | None:
        """Return why a device may not take part now; None: it may."""
        return self.gate.refusal(device, now)

    def on_broker_log(self, payload: bytes, now: float) -> None:
        """Take an error that the broker publishes."""
        if self.notes is None:
            return
        text = payload[:_MAX_LINE].decode(errors="replace").partition(": ")[2]
        if any(f"Client {client} already connected" in text for client in self._shown_out):
            return  # that was us
        if any(words in text for words in _PROBES):
            return
        if "certificate verify failed" in text:
            text = (
                "the broker refused a client: its certificate is of another authority, expired or "
                "revoked"
            )
        self.notes.note("broker", None, text, now)

    def publish_revocations(self, now: float) -> None:
        """Let the broker beside the hub know what is revoked."""
        if self.enrolment is None or self.broker is None:
            return
        try:
            told = self.broker.publish_revocations(self.enrolment.revocation_list(now))
        except OSError as error:
            self._trouble(f"the revocation list can't be written: {error}", now)
            return
        if not told:
            folder: Path = self.broker.folder
            self._trouble(
                f"the revocation list in {folder} is new, but no mosquitto runs there to read it: "
                "let it reload (SIGHUP). The hub itself lets nobody in who was revoked",
                now,
            )

    def show_out(self, device: str, session: str | None, now: float) -> None:
        """Have a device's connections ended, once it had time to hear why.

        Args:
            device: its id.
            session: as it said; what the broker's log says of its connections is added.
            now: Unix time, in seconds.
        """
        clients = self.broker.clients_of(device) if self.broker is not None else []
        if session is not None:
            clients.append(f"{device}-{session}")
        if clients:
            self._evictions.append((now + LAST_WORD_S, list(dict.fromkeys(clients))))

    def tick(self, now: float) -> None:
        """Do what is due."""
        for due in [due for due in self._evictions if now >= due[0]]:
            self._evictions.remove(due)
            self._shown_out = due[1]
            self._evict(due[1])
        if now >= self._next_certificates:
            self._next_certificates = now + CERTIFICATES_S
            try:
                self._renew(now)
            except OSError as error:
                self._next_certificates = now + AGAIN_S
                self._trouble(f"the hub's own certificates can't be renewed: {error}", now)
        if self.broker is not None and self.notes is not None and now >= self._next_log:
            self._next_log = now + LOG_S
            try:
                found = self.broker.forbidden()
            except OSError as error:
                self._next_log = now + AGAIN_S
                self._trouble(f"the broker's log can't be kept small: {error}", now)
                return
            for one in found:
                words = (
                    f"tried to {one.did} {one.topic}, which is not its own; the broker forbids it"
                )
                self.notes.note("forbidden", one.device, words, now)

    def _trouble(self, words: str, now: float) -> None:
        if self.notes is not None:
            self.notes.note("broker", None, words, now)
