"""A broker of our own, for the demo and for ``broker.embedded``: mosquitto, or else amqtt.

Bound to loopback and open to every local program; for anything else run a broker yourself.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from hub.errors import HubError

HOST = "127.0.0.1"
Kind = Literal["mosquitto", "amqtt"]
#: Freed memory that mosquitto keeps. glibc would give each chunk's back to the kernel and take it
#: anew for the next one, which is half of mosquitto's work while an update passes.
_KEPT_BYTES = 8 * 1024 * 1024
#: MQTT 3.1.1 CONNECT (clean session, keep-alive 10 s, id left to the broker) and DISCONNECT.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
_DISCONNECT = b"\xe0\x00"
_CONNACK_ACCEPTED = b"\x20\x02\x00\x00"


class BrokerError(HubError):
    """The broker could not be started: why, and what to do."""


@dataclass(frozen=True)
class Broker:
    """A running broker, a process of its own."""

    url: str  # mqtt://127.0.0.1:PORT
    kind: Kind
    pid: int
    log: Path
    _process: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def running(self) -> bool:
        """Whether the process still lives."""
        return self._process.poll() is None

    def stop(self, patience_s: float = 3.0) -> None:
        """End the process by its id: asked first, killed when it does not listen. Idempotent."""
        if not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def find_mosquitto() -> str | None:
    """Return mosquitto's path, also from where Debian installs it beside a user's PATH."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which("mosquitto", path=os.pathsep.join(places))


def start_broker(
    folder: Path, *, port: int = 0, kind: Kind | None = None, timeout_s: float = 20.0
) -> Broker:
    """Start a broker on loopback and return once it accepts MQTT clients.

    It runs in a session of its own, so that Ctrl-C reaches its owner alone, who stops it last.
    A broker which an earlier owner left in the same folder (killed before it could stop it)
    is ended first.

    Args:
        folder: for its configuration, log and process id; made if it is not there.
        port: a free one is chosen if 0.
        kind: mosquitto where it is installed, otherwise amqtt, if None.
        timeout_s: how long it may take to accept the first client.

    Raises:
        BrokerError: nothing to start, the port is taken, or it did not get ready.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "broker.log"
    _end_leftover(folder)
    chosen = _free_port(port)
    kind, command = _command(folder, chosen, kind)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"MALLOC_TRIM_THRESHOLD_": str(_KEPT_BYTES), **os.environ},
        )
    broker = Broker(f"mqtt://{HOST}:{chosen}", kind, process.pid, log, process)
    try:
        (folder / "broker.pid").write_text(f"{process.pid}\n")
        _wait_until_ready(broker, chosen, timeout_s)
    except BaseException:
        broker.stop()
        raise
    return broker


def _command(folder: Path, port: int, kind: Kind | None) -> tuple[Kind, list[str]]:
    mosquitto = find_mosquitto() if kind in (None, "mosquitto") else None
    if mosquitto:
        configuration = folder / "mosquitto.conf"
        configuration.write_text(mosquitto_configuration(port, as_root=os.geteuid() == 0))
        return "mosquitto", [mosquitto, "-c", str(configuration)]
    if kind == "mosquitto":
        raise BrokerError(
            "mosquitto is not installed. Install it (Debian: apt-get install mosquitto), "
            "or leave the choice open."
        )
    if importlib.util.find_spec("amqtt") is None:
        raise BrokerError(
            "neither mosquitto nor amqtt is installed. Install mosquitto "
            "(Debian: apt-get install mosquitto), or amqtt (pip install 'lorikeet[hub]')."
        )
    arguments = ["-m", "hub.embedded_broker", "--port", str(port), "--folder", str(folder)]
    return "amqtt", [sys.executable, *arguments]


def mosquitto_configuration(port: int, *, as_root: bool) -> str:
    """Return a configuration for mosquitto 2.0 and later: loopback, anonymous, nothing on disk.

    The queue is far longer than the default of 1,000 messages a client, past which mosquitto
    drops silently, and bounded in bytes instead.
    """
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence false",
        "max_queued_messages 50000",
        f"max_queued_bytes {256 * 1024 * 1024}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "connection_messages false",
    ]
    if as_root:
        lines.append("user root")  # otherwise it becomes user mosquitto, who may read nothing here
    return "\n".join(lines) + "\n"


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        # As brokers do: a port whose last connections still linger (TIME_WAIT) is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BrokerError(
                f"port {port} on {HOST} is taken ({error.strerror}). Use the broker that is "
                "there (broker.url), or choose another port."
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _wait_until_ready(broker: Broker, port: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not accepts_clients(port):
        if not broker.running or time.monotonic() > deadline:
            state = "did not accept clients" if broker.running else "ended at once"
            said = broker.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise BrokerError(
                f"{broker.kind} {state} on {HOST}:{port}; its log {broker.log} ends with: "
                f"{''.join(said) or 'nothing'}"
            )
        time.sleep(0.02)


def accepts_clients(port: int, timeout_s: float = 2.0) -> bool:
    """Tell whether a broker on loopback answers a CONNECT with an accepting CONNACK."""
    try:
        with socket.create_connection((HOST, port), timeout_s) as client:
            client.sendall(_CONNECT)
            answer = b""
            while len(answer) < len(_CONNACK_ACCEPTED):
                more = client.recv(len(_CONNACK_ACCEPTED) - len(answer))
                if not more:
                    return False
                answer += more
            client.sendall(_DISCONNECT)
            return answer == _CONNACK_ACCEPTED
    except OSError:
        return False


def _end_leftover(folder: Path) -> None:
    """End the broker named in the folder's process-id file, if that process is still it."""
    note = folder / "broker.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.Error):
        process = psutil.Process(int(note.read_text()))
        ours = {str(folder), str(folder / "mosquitto.conf")}
        if ours & set(process.cmdline()):  # a process id may have been given to another program
            process.terminate()
            _, alive = psutil.wait_procs([process], timeout=3.0)
            for survivor in alive:
                survivor.kill()
    note.unlink(missing_ok=True)
