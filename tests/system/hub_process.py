"""``lorikeet-hub serve`` as a real process: started, killed, asked over HTTP."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hub.api.control import JobDetail, JobEvent
from hub.cli.client import HubClient
from hub.errors import HubError

FLEET = "test"
TIMEOUT_S = 30.0


def poll(what: str, found: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Return the first true answer of ``found``; fail with ``what`` was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.02)
    raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")


class HubProcess:
    """``lorikeet-hub serve`` as a process of its own; can be killed and started again.

    Args:
        folder: for its settings, log and state.
        broker: the broker's URL.
        broker_keys: more lines of the settings' part ``broker``, indented.
    """

    def __init__(self, folder: Path, broker: str, broker_keys: str = "") -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.broker = broker
        self._config = folder / "hub.yaml"
        self._config.write_text(
            f"fleet: {FLEET}\nbroker:\n  url: {broker}\n{broker_keys}"
            f"http:\n  listen: 127.0.0.1:{port}\n"
        )
        self._log = folder / "hub.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the hub was not started")
        return self._process.pid

    def start(self) -> None:
        script = Path(sys.executable).with_name("lorikeet-hub")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(script), "serve", "--config", str(self._config)],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            )
        with HubClient(self.url) as client:
            poll("the hub's HTTP", lambda: self._answers(client))

    def _answers(self, client: HubClient) -> bool:
        if not self.running:
            raise RuntimeError(f"the hub has ended:\n{self.log[-4000:]}")
        try:
            return client.status().ok
        except HubError:
            return False

    def kill9(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise

    def restart(self) -> None:
        """End it as a loss of power would, and start it again."""
        self.kill9()
        self.start()

    # Reading

    def job(self, name: str) -> JobDetail:
        with HubClient(self.url) as client:
            return client.job(name)

    def events(self, name: str, *kinds: str) -> list[JobEvent]:
        with HubClient(self.url) as client:
            return [one for one in client.events(name) if not kinds or one.kind in kinds]

    def await_event(self, name: str, kind: str, **fields: Any) -> JobEvent:
        """Return the first event of a kind with these fields, waiting for it."""

        def found() -> JobEvent | None:
            for one in self.events(name, kind):
                if all(one.data.get(key) == value for key, value in fields.items()):
                    return one
            return None

        event: JobEvent = poll(f"{kind} {fields}", found)
        return event

    def submit(self, text: str) -> None:
        with HubClient(self.url) as client:
            client.submit(text)

    def accepted(self, name: str) -> list[tuple[int, str]]:
        """Return (round, device) of each accepted update, sorted; doubles included."""
        found = self.events(name, "UpdateAccepted")
        return sorted((one.data["round"], one.data["device"]) for one in found)
