"""mosquitto for a bench's own network: the demo's settings, but heard on every address there."""

import subprocess
import time
from pathlib import Path

from bench.report import BenchError
from hub.broker import HOST, accepts_clients, find_mosquitto, mosquitto_configuration

PORT = 1883
_PATIENCE_S = 20.0


class OpenBroker:
    """A mosquitto in the calling thread's network namespace, which must not be the machine's own.

    Args:
        folder: for its configuration and log.
        host: the address by which devices and hub reach it.

    Raises:
        BenchError: mosquitto is missing or doesn't start.
    """

    def __init__(self, folder: Path, host: str) -> None:
        mosquitto = find_mosquitto()
        if mosquitto is None:
            raise BenchError("mosquitto is missing. Debian: apt-get install mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        settings = mosquitto_configuration(PORT, as_root=True)
        closed = f"listener {PORT} {HOST}"
        if closed not in settings:
            raise BenchError(f"the hub's settings for mosquitto have no {closed!r} any more.")
        (folder / "mosquitto.conf").write_text(settings.replace(closed, f"listener {PORT}"))
        with (folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [mosquitto, "-c", str(folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = f"mqtt://{host}:{PORT}"
        deadline = time.monotonic() + _PATIENCE_S
        while not accepts_clients(PORT):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"mosquitto does not start; see {folder / 'broker.log'}.")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(3.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
