"""A test stand: a real mosquitto and a real hub, each a process of its own, and room for agents.

Both are on loopback unless a `Place` says otherwise.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import yaml

from bench.report import BenchError
from hub.api.control import ENDED, JobDetail
from hub.broker import start_broker
from hub.cli.client import HubClient
from hub.demo.fleet import command_beside
from hub.errors import UnreachableError

FLEET = "bench"
_PATIENCE_S = 60.0


class RunningBroker(Protocol):
    """A broker that was started."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None:
        """End it."""


def _mosquitto_on_loopback(folder: Path) -> RunningBroker:
    return start_broker(folder, kind="mosquitto")


def _as_it_is(command: Sequence[str | Path]) -> Sequence[str | Path]:
    return command


@dataclass(frozen=True)
class Place:
    """Where a stand's broker and hub run.

    Attributes:
        start_broker: starts one, given a folder for its files.
        hub_host: the address that the hub listens on.
        hub_command: returns the hub's command as it runs there.
    """

    start_broker: Callable[[Path], RunningBroker] = _mosquitto_on_loopback
    hub_host: str = "127.0.0.1"
    hub_command: Callable[[Sequence[str | Path]], Sequence[str | Path]] = _as_it_is


class Stand:
    """Broker and hub; a context manager that ends both, and all else it started, by pid.

    Args:
        folder: for configuration, state and logs; made if it isn't there.
        place: where they run.
    """

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        place = place or Place()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._broker = place.start_broker(folder / "broker")
        self.broker_url = self._broker.url
        listen = f"{place.hub_host}:{_free_port(place.hub_host)}"
        config = {
            "fleet": FLEET,
            "broker": {"url": self.broker_url},
            "http": {"listen": listen},
            "store": {"database": "sqlite:///hub/hub.db", "blobs": "hub/blobs"},
        }
        (folder / "hub.yaml").write_text(yaml.safe_dump(config))
        self.client = HubClient(f"http://{listen}")
        command: list[str | Path] = [command_beside("lorikeet-hub"), "serve"]
        command += ["--config", folder / "hub.yaml"]
        if place.hub_host != Place.hub_host:
            command.append("--insecure")
        try:
            self.hub_pid = self.start("hub", place.hub_command(command))
            self.wait_for("the hub's HTTP interface", self._hub_answers)
        except BaseException:
            self._stop()
            raise

    def start(self, name: str, command: Sequence[str | Path]) -> int:
        """Start a process, its output in ``{name}.log``; return its pid."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process.pid

    def kill(self, pid: int) -> None:
        """Kill a process that `start` started, as a loss of power would."""
        process = next(one for one in self._processes if one.pid == pid)
        self._processes.remove(process)
        process.kill()
        process.wait()

    def wait_for(
        self, what: str, there: Callable[[], bool], patience_s: float = _PATIENCE_S
    ) -> None:
        """Wait until something is the case.

        Raises:
            BenchError: it never is, or a process of the stand ended.
        """
        deadline = time.monotonic() + patience_s
        while not _reached(there):
            if any(process.poll() is not None for process in self._processes):
                raise BenchError(f"a process ended while waiting for {what}; logs: {self.folder}")
            if time.monotonic() > deadline:
                raise BenchError(f"no sign of {what} in {patience_s:.0f} s; logs: {self.folder}")
            time.sleep(0.2)

    def ready_devices(self) -> int:
        """Return how many devices have greeted and are there."""
        return sum(one.state == "ready" for one in self.client.devices())

    def run_job(self, job: dict[str, Any], patience_s: float) -> JobDetail:
        """Submit a job and wait for its end.

        Raises:
            BenchError: it doesn't end, or not well.
        """
        name = str(job["job"])
        self.client.submit(yaml.safe_dump(job, sort_keys=False))
        self.wait_for(
            f"the end of job {name}",
            lambda: self.client.job(name).summary.phase in ENDED,
            patience_s,
        )
        detail = self.client.job(name)
        if detail.summary.phase != "done":
            raise BenchError(f"job {name} is {detail.summary.phase}: {detail.summary.reason}")
        return detail

    def __enter__(self) -> "Stand":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _hub_answers(self) -> bool:
        self.client.jobs()
        return True

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.client.__exit__(None, None, None)
        self._broker.stop()


def _reached(there: Callable[[], bool]) -> bool:
    """Return whether something is the case; a busy hub may hang up on a question about it."""
    try:
        return there()
    except UnreachableError:
        return False


def _free_port(host: str) -> int:
    """Return a port that is free on this machine, if the host is one of its addresses."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
    return 8080  # an address in another network namespace, where all are free
