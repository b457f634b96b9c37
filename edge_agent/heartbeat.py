"""What an agent leaves in its state folder while it lives, and its end when it is stuck.

Docker starts a container again that has ended, but not one that is merely unhealthy; so an agent
whose loop hangs ends itself, with its threads' stacks in the log.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from wire.messages import RungPlan

log = logging.getLogger(__name__)

FILE = "agent.json"
#: How often it is written; seldom, for the sake of SD cards.
WRITE_S = 60.0
#: An older one is of an agent that is gone or stuck.
STALE_S = 3 * WRITE_S
#: A turn of the loop takes milliseconds; the longest, a probe of a slow GPU's driver, some seconds.
#: The clock stands still while a device is suspended.
STUCK_S = 300.0


class Sign(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life, as it stands in the file."""

    pid: int
    device: str
    session: str
    ts: float  # Unix time
    welcomed: bool  # the hub took this session
    state: str  # as on its topic
    reason: str | None = None
    plans: dict[str, RungPlan] = {}  # by job


class Heartbeat:
    """Writes signs of life, and ends the process where none come.

    Args:
        folder: the state folder.
        stuck_s: silence after which the process ends.
    """

    def __init__(self, folder: Path, stuck_s: float = STUCK_S) -> None:
        self._file = folder / FILE
        self._stuck_s = stuck_s
        self._last = time.monotonic()
        self._next_write = 0.0
        self._written: tuple[object, ...] = ()
        self._over = threading.Event()

    def begin(self) -> None:
        """Watch from now on."""
        self._last = time.monotonic()
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()

    def beat(self, now: float, sign: Sign) -> None:
        """The loop turned; the file is written when something changed, or from time to time."""
        self._last = now
        what = (sign.welcomed, sign.state, sign.reason, sign.plans)
        if now < self._next_write and what == self._written:
            return
        self._next_write, self._written = now + WRITE_S, what
        draft = self._file.with_suffix(".part")
        try:
            draft.write_bytes(msgspec.json.encode(sign))
            draft.replace(self._file)
        except OSError as error:  # a full disk is no reason to end
            log.debug("%s can't be written: %s", self._file, error)

    def end(self) -> None:
        """The loop ended in good order."""
        self._over.set()
        self._file.unlink(missing_ok=True)

    def _watch(self) -> None:
        pause_s = self._stuck_s / 10
        began = time.monotonic()
        while not self._over.wait(pause_s):
            slept_s, began = time.monotonic() - began, time.monotonic()
            if slept_s > 2 * pause_s:  # the whole process was frozen: the loop needs its turn first
                self._last = time.monotonic()
            elif time.monotonic() - self._last > self._stuck_s:
                log.critical("nothing happened for %.0f s; the agent is stuck", self._stuck_s)
                faulthandler.dump_traceback(sys.__stderr__ or 2)
                os._exit(1)


def read_sign(folder: Path) -> Sign | None:
    """Return the last sign of life in a state folder, None if there is none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Sign)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
