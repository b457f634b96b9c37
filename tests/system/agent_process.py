"""``lorikeet-agent`` as a real process: started, interrupted, killed; its worker, looked up by pid.

Every agent gets a process group of its own, so that Ctrl-C can be sent as a terminal sends it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.system.hub_process import FLEET, poll

SCRIPT = Path(sys.executable).with_name("lorikeet-agent")
ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def agent_command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ``lorikeet-agent`` to its end."""
    return subprocess.run(
        [str(SCRIPT), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENVIRONMENT,
    )


def is_gone(process: psutil.Process) -> bool:
    """Return whether a process has ended; one that only awaits its parent's glance has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class AgentProcess:
    """``lorikeet-agent run`` as a process of its own; can be killed and started again.

    Args:
        folder: for its log and, unless told otherwise, its state.
        broker: the broker's URL.
        device: ``--id``.
        data: ``--data``.
        memory_bytes: ``--memory``.
        words: more of the command line.
        environment: more of it.
    """

    def __init__(  # noqa: PLR0917  (as on the command line)
        self,
        folder: Path,
        broker: str,
        device: str,
        data: Path,
        memory_bytes: int | None = None,
        words: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.device = device
        self.state = folder / "state"
        self.log_file = folder / "agent.log"
        self._command = [
            str(SCRIPT), "run", "--broker", broker, "--fleet", FLEET, "--id", device,
            "--data", str(data), "--state", str(self.state), "--threads", "1", *words,
        ]  # fmt: skip
        if memory_bytes is not None:
            self._command += ["--memory", str(memory_bytes)]
        self._environment = ENVIRONMENT | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._workers: set[psutil.Process] = set()

    def __enter__(self) -> "AgentProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def running(self) -> bool:
        return self._started.poll() is None

    @property
    def children(self) -> list[psutil.Process]:
        """What the agent has started and not yet seen the end of."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._workers.update(found)
        return found

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"agent {self.device} was not started")
        return self._process

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, process_group=0
            )

    def worker(self) -> psutil.Process:
        """Return the agent's worker, waiting for it."""
        found: list[psutil.Process] = poll(f"{self.device}'s worker", self._children_while_running)
        assert len(found) == 1, found
        return found[0]

    def await_log(self, text: str, timeout_s: float = 60.0) -> None:
        poll(f"{text!r} in {self.device}'s log", lambda: text in self.log, timeout_s)

    def interrupt(self) -> None:
        """Send what Ctrl-C sends: SIGINT to the whole foreground group."""
        os.killpg(self.pid, signal.SIGINT)

    def kill9(self) -> None:
        self._started.kill()
        self._started.wait()

    def wait(self, timeout_s: float) -> int:
        """Return the exit status, waiting for the end."""
        return self._started.wait(timeout_s)

    def close(self) -> None:
        """End it, whatever state it is in, and every worker that was seen."""
        if self._process is None:
            return
        _ = self.children
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill9()
        for one in self._workers:
            if not is_gone(one):
                one.kill()

    def _children_while_running(self) -> list[psutil.Process]:
        if not self.running:
            raise RuntimeError(f"agent {self.device} has ended:\n{self.log[-3000:]}")
        return self.children
