"""The folder of a broker beside the hub: its revocation list, its process, what its log tells.

See `hub.broker_configuration` for what is in it.
"""

import re
import signal
from pathlib import Path
from typing import NamedTuple

import psutil

from hub.fleet.enrolment import HUB_NAME
from wire.topics import Topics

#: A log is moved aside at this size, once.
MAX_LOG_BYTES = 16 * 1024 * 1024
#: So much of it is read at a time; what a busy broker wrote beyond comes the next time.
_MAX_READ_BYTES = 4 * 1024 * 1024
#: Most lines tell of ordinary messages.
_WORTH = re.compile(rb": (?:\t|Denied PUBLISH|Received SUBSCRIBE|New client connected)")
_LINE = re.compile(r"^\S+: (.*)$")
_DENIED = re.compile(r"Denied PUBLISH from (.*) \(d\d, q\d, r\d, m\d+, '([^']*)'")
#: A client id may hold anything, blanks and brackets too.
_CONNECTED = re.compile(
    r"New client connected from \S+ as (.*) \(p\d+, c\d+, k\d+(?:, u'([^']*)')?\)\.$"
)
_MAX_CLIENTS = 20_000
_SUBSCRIBE = re.compile(r"Received SUBSCRIBE from (.*)$")
_FILTER = re.compile(r"\t(\S+) \(QoS \d\)")


class Forbidden(NamedTuple):
    """What a client tried."""

    device: str  # the name in its certificate
    did: str  # publish, subscribe
    topic: str


class BrokerFolder:
    """A broker's files.

    Args:
        folder: that ``lorikeet-hub broker-config`` wrote.
        topics: of the fleet.
    """

    def __init__(self, folder: Path, topics: Topics) -> None:
        self.folder = folder
        self._topics = topics
        self._log = folder / "mosquitto.log"
        # What was logged before this hub began is history.
        self._read = self._log.stat().st_size if self._log.exists() else 0
        self._rest = b""
        self._subscriber: str | None = None
        self._users: dict[str, str] = {}  # by client id, which anybody is free to choose
        # Who connected before this hub began may be connected still.
        for old in (self._log.with_suffix(".log.1"), self._log):
            self._learn_clients(old)

    def publish_revocations(self, crl: bytes) -> bool:
        """Write the revocation list and let the broker read it; False if no broker runs here."""
        write_public(self.folder / "crl.pem", crl)
        return self.reload()

    def reload(self) -> bool:
        """Send SIGHUP to the broker of the folder's process-id file, if that is one."""
        try:
            process = psutil.Process(int((self.folder / "mosquitto.pid").read_text()))
            if not any(Path(word).name == "mosquitto" for word in process.cmdline()[:1]):
                return False  # a process id may have been given to another program
            process.send_signal(signal.SIGHUP)
        except (OSError, ValueError, psutil.Error):
            return False
        return True

    def forbidden(self) -> list[Forbidden]:
        """Return what was forbidden since this was last asked; bounded in time and memory."""
        try:
            size = self._log.stat().st_size
            if size < self._read:
                self._read, self._rest = 0, b""  # it was begun anew
            with self._log.open("rb") as file:
                file.seek(self._read)
                data = file.read(_MAX_READ_BYTES)
        except OSError:
            return []
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-4096:]
        told = [line.decode(errors="replace") for line in lines if _WORTH.search(line)]
        found = [one for line in told if (one := self._look(line))]
        if size > MAX_LOG_BYTES and self._read >= size:
            self._log.replace(self._log.with_suffix(".log.1"))
            self._read = 0
            self.reload()  # makes it open its log anew
        return found

    def clients_of(self, device: str) -> list[str]:
        """Return the client ids with which a certificate's name has connected, as was logged."""
        return [client for client, user in self._users.items() if user == device]

    def _learn_clients(self, log: Path) -> None:
        try:
            with log.open("rb") as file:
                for raw in file:
                    match = _LINE.match(raw.decode(errors="replace").rstrip("\n"))
                    if match is not None:
                        self._on_connected(match[1])
        except OSError:
            return

    def _on_connected(self, text: str) -> bool:
        connected = _CONNECTED.match(text)
        if connected is None:
            return False
        if len(self._users) >= _MAX_CLIENTS:
            self._users.clear()
        self._users[connected[1]] = connected[2] or ""
        return True

    def _look(self, line: str) -> Forbidden | None:
        match = _LINE.match(line)
        text = match[1] if match else ""
        wanted = _FILTER.match(text)
        if wanted is not None and self._subscriber is not None:
            device = self._subscriber
            if self._may_hear(device, wanted[1]):
                return None
            return Forbidden(device, "subscribe", wanted[1])
        self._subscriber = None
        if self._on_connected(text):
            return None
        if subscribe := _SUBSCRIBE.match(text):
            self._subscriber = self._user(subscribe[1])
        elif denied := _DENIED.match(text):
            return Forbidden(self._user(denied[1]), "publish", denied[2])
        return None

    def _user(self, client: str) -> str:
        """Return the certificate's name of a client; of one from before: what its id says."""
        return self._users.get(client) or client.rpartition("-")[0] or client

    def _may_hear(self, device: str, wanted: str) -> bool:
        """Return whether a filter is one that the access list grants."""
        topics = self._topics
        if device == HUB_NAME:
            return True
        common = {topics.hub_state(), topics.job_round(), topics.slice_chunk()}
        own = {topics.reply(device), topics.command(device), topics.repair_chunk(device)}
        begin, _, _ = topics.slice_chunk(name="").rpartition("/")
        slices = wanted.startswith(f"{begin}/") and "#" not in wanted
        return slices or wanted in common | own


def write_public(path: Path, content: bytes) -> None:
    """Write a file that everybody may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content)
    draft.chmod(0o644)
    draft.replace(path)
