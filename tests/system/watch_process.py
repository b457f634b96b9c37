"""``lorikeet-hub watch`` as a real process; what it prints is read as it comes."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from tests.system.hub_process import poll

SCRIPT = Path(sys.executable).with_name("lorikeet-hub")


class Watching:
    """The command while it runs.

    Args:
        arguments: what stands after ``lorikeet-hub watch``.
    """

    def __init__(self, *arguments: str) -> None:
        self.lines: list[str] = []
        self.log: list[str] = []
        self._process = subprocess.Popen(
            [str(SCRIPT), "watch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._streams = (self._process.stdout, self._process.stderr)
        self._readers = [
            threading.Thread(target=_keep, args=(stream, into), daemon=True)
            for stream, into in zip(self._streams, (self.lines, self.log), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def await_line(self, *words: str) -> str:
        """Return the first line that has all these words, waiting for it."""
        return _await(self.lines, words)

    def await_log(self, *words: str) -> str:
        """Return the first line of its log that has all these words, waiting for it."""
        return _await(self.log, words)

    def end(self, number: int = signal.SIGINT) -> int:
        """Ask it to end; return its exit code once all that it printed was read."""
        self._process.send_signal(number)
        try:
            return self._process.wait(15)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a loss of power would; safe to call twice."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(15)
        for stream in self._streams:
            stream.close()


def _keep(stream: Iterable[str], into: list[str]) -> None:
    for line in stream:
        into.append(line)


def _await(lines: list[str], words: tuple[str, ...]) -> str:
    def found() -> str | None:
        return next((one for one in list(lines) if all(word in one for word in words)), None)

    try:
        return str(poll(f"a line with {words}", found))
    except TimeoutError as error:
        raise TimeoutError(f"{error}; it printed {lines[-12:]}") from error
