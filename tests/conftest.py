"""Fixtures that several packages' tests share."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# As in the hub: numpy's threads would spin for small matrices while other processes need the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``bench.faults`` asks for more of the same than CI does."""
    faults = parser.getgroup("faults")
    faults.addoption("--fault-seeds", type=int, default=3, help="seeds of each fault test")
    faults.addoption("--fault-messages", type=int, default=2000, help="messages of each storm")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``fault_seed`` once for each seed."""
    if "fault_seed" in metafunc.fixturenames:
        count = metafunc.config.getoption("--fault-seeds")
        metafunc.parametrize("fault_seed", range(1, count + 1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine can't do, with the reason."""
    if MOSQUITTO is None:
        for item in items:
            if item.get_closest_marker("broker"):
                item.add_marker(pytest.mark.skip(reason="mosquitto is not on PATH"))
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="only root may do this"))


def pytest_configure() -> None:
    """Share a cache among all tests and the agents they start: this machine is measured once."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="lorikeet-tests-")


def pytest_unconfigure() -> None:
    """Remove the cache."""
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


class Mosquitto:
    """A broker of our own on a free loopback port; can be killed and started again.

    Args:
        folder: for its configuration and log.
        extra: lines of configuration: of that listener, and then of others.
    """

    def __init__(self, folder: Path, extra: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence false\nmax_queued_messages 0\n{extra}"
        )
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(MOSQUITTO), "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"mosquitto didn't start: {self._log.read_text()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    mosquitto = Mosquitto(folder)
    mosquitto.start()
    yield mosquitto
    mosquitto.kill()
