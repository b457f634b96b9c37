"""Renews the device's certificate in good time, also once it has expired; see `renew_command`."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.enrolment.identity import Identity, identity_folder, load_identity
from edge_agent.errors import AgentError

log = logging.getLogger(__name__)

CHECK_S = 60.0
#: After a success: where this device's clock is years ahead, every certificate seems old.
LEAST_PAUSE_S = 6 * 3600.0
FIRST_RETRY_S = 60.0
LAST_RETRY_S = 6 * 3600.0
#: A child that hangs, at a hub that answers nothing, is ended.
_CHILD_S = 120.0


class Renewing:
    """Looks at the clock; starts a child where the certificate needs it.

    Args:
        state: the agent's state folder; None: it has no certificate of the hub's.
        renewed: called when there is a new certificate; the link shows it when it next connects.
        failed: called with the reason, when it didn't work.
        clock: Unix time, in seconds: certificates end by the calendar.
    """

    def __init__(
        self,
        state: Path | None,
        renewed: Callable[[], None],
        failed: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._renewed = renewed
        self._failed = failed
        self._clock = clock
        self.identity: Identity | None = load_identity(state) if state is not None else None
        self._child: subprocess.Popen[bytes] | None = None
        self._kill_at = 0.0
        self._next = 0.0
        self._retry_s = FIRST_RETRY_S

    @property
    def days_left(self) -> float | None:
        """How long the certificate is good, in days; None: this device has none."""
        if self.identity is None:
            return None
        return round(self.identity.days_left(self._clock()), 2)

    def tick(self, now: float) -> None:
        """Do what is due.

        Args:
            now: monotonic time, in seconds.
        """
        if self._child is not None:
            self._look_after(self._child, now)
        elif self.identity is not None and self._state is not None and now >= self._next:
            self._next = now + CHECK_S
            if self._clock() >= self.identity.renew_at():
                self._start(self._state, now)

    def close(self) -> None:
        """End a child that still runs."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self, state: Path, now: float) -> None:
        command = [sys.executable, "-P", "-m", "edge_agent.enrolment.renew_command", str(state)]
        with self._log_of(state).open("wb") as errors:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._kill_at = now + _CHILD_S

    def _look_after(self, child: "subprocess.Popen[bytes]", now: float) -> None:
        if child.poll() is None:
            if now >= self._kill_at:
                child.kill()
            return
        self._child = None
        if child.returncode == 0 and self._reload():
            self._retry_s = FIRST_RETRY_S
            self._next = now + LEAST_PAUSE_S
            self._renewed()
            return
        self._next = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        self._failed(self._last_words() or f"the renewal ended with code {child.returncode}")

    def _reload(self) -> bool:
        try:
            self.identity = load_identity(self._state) if self._state is not None else None
        except AgentError as error:
            log.warning("%s", error)
            return False
        return self.identity is not None

    def _last_words(self) -> str:
        if self._state is None:
            return ""
        with self._log_of(self._state).open("rb") as file:
            lines = file.read(4096).decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("lorikeet-agent: ") if lines else ""

    @staticmethod
    def _log_of(state: Path) -> Path:
        return identity_folder(state) / "renewal.log"
