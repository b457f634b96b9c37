"""The battery of a phone, through Termux's program ``termux-battery-status``.

Android hides ``/sys/class/power_supply`` from programs; Termux:API asks the system instead and
prints JSON (https://github.com/termux/termux-api/blob/master/app/src/main/java/com/termux/api/apis/BatteryStatusAPI.java).
Without the add-on's app the program waits for ever, so it is ended after some seconds, and asked
again much later.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import msgspec

from edge_agent.probe.reading import UnreadableError

PROGRAM = "termux-battery-status"
_TIMEOUT_S = 5.0
#: A battery moves slowly, and each question costs a process.
FRESH_S = 60.0
#: After a failure; each one may have cost the whole time-out.
RETRY_S = 600.0
_MAX_BYTES = 64 * 1024


class TermuxStatus(msgspec.Struct, frozen=True):
    """What the program prints, as far as it is of interest."""

    percentage: float
    plugged: str | None = None  # UNPLUGGED, PLUGGED_AC, PLUGGED_USB, PLUGGED_WIRELESS
    status: str | None = None  # CHARGING, DISCHARGING, FULL, NOT_CHARGING, UNKNOWN
    temperature: float | str | None = None  # °C; older versions write it as a string

    def temperature_c(self) -> float | None:
        """Return the battery's temperature, if it is one."""
        try:
            value_c = float("" if self.temperature is None else self.temperature)
        except ValueError:
            return None
        return value_c if -40.0 <= value_c <= 150.0 else None


class TermuxBattery:
    """Asks the program, at most once a minute.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._program: str | None = None
        self._answer: TermuxStatus | UnreadableError | None = None
        self._asks_again_at = 0.0

    def status(self) -> TermuxStatus:
        """Return the battery's status, at most a minute old.

        Raises:
            UnreadableError: there is no such program, or it failed; with the reason.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise UnreadableError(f"{PROGRAM} is not on PATH")
        now = self._clock()
        if self._answer is None or program != self._program or now >= self._asks_again_at:
            self._program = program
            try:
                self._answer = _parse(_ask(program))
                self._asks_again_at = now + FRESH_S
            except UnreadableError as error:
                self._answer = error
                self._asks_again_at = now + RETRY_S
        if isinstance(self._answer, UnreadableError):
            raise UnreadableError(str(self._answer))
        return self._answer


def _ask(program: str) -> bytes:
    try:
        process = subprocess.Popen(
            [program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a script: what it started must end with it
        )
    except OSError as error:
        raise UnreadableError(f"{PROGRAM} can't be started: {error.strerror}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise UnreadableError(
                f"{PROGRAM} didn't answer in {_TIMEOUT_S:.0f} s. Is the app Termux:API installed?"
            ) from error
    if process.returncode != 0:
        raise UnreadableError(f"{PROGRAM} ended with code {process.returncode}")
    return output[:_MAX_BYTES]


def _parse(output: bytes) -> TermuxStatus:
    try:
        status = msgspec.json.decode(output, type=TermuxStatus)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{PROGRAM} printed what is no status: {error}") from error
    if not 0 <= status.percentage <= 100:
        raise UnreadableError(f"{PROGRAM} tells {status.percentage:g} percent")
    return status
