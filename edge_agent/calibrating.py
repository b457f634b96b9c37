"""Lets the supervisor's worker measure this device once, when there is a job for it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.calibration import (
    FULL_NEEDS_BYTES,
    WIDE_NEEDS_BYTES,
    Calibration,
    Measured,
    least_runtime_bytes,
    load_calibration,
    present_key,
    save_calibration,
)
from edge_agent.protocol import Calibrate
from edge_agent.runtimes import TORCH

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


def what_fits(limit_bytes: int, runtime: str = TORCH) -> Calibrate:
    """Return what may be measured within a limit.

    Args:
        limit_bytes: for the whole agent.
        runtime: of `edge_agent.runtimes`; an engine is measured in one way only.
    """
    if runtime != TORCH:
        return Calibrate(wide=False, full=False)
    return Calibrate(wide=limit_bytes >= WIDE_NEEDS_BYTES, full=limit_bytes >= FULL_NEEDS_BYTES)


def worth_repeating(known: Calibration, limit_bytes: int) -> bool:
    """Return whether there is room now for a part that an earlier limit left out.

    Args:
        known: of this device.
        limit_bytes: for the whole agent.
    """
    measured, room = known.measured, what_fits(limit_bytes, known.runtime)
    if measured is None:
        return limit_bytes >= least_runtime_bytes(known.runtime)
    return (room.full and measured.full_bytes is None) or (room.wide and not measured.wide)


class Calibrating:
    """What the supervisor knows of its device, and how it comes to know it.

    Attributes:
        known: what is planned with; None until it was measured.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._folder = Path(agent.settings.state_folder)
        self._threads = agent.settings.threads
        self._limit_bytes = agent.limit.limit_bytes
        self._runtime = agent.runtime
        self.known = load_calibration(self._folder, self._threads, self._runtime)
        if self.known is None and self._limit_bytes < least_runtime_bytes(self._runtime):
            self.known = Calibration(runtime=self._runtime)
        elif self.known is not None and worth_repeating(self.known, self._limit_bytes):
            self.known = None

    def begin(self) -> None:
        """Have it measured, once there is a job and this session is the device's."""
        agent = self._agent
        if self.known is None and agent.welcomed and agent.jobs.active:
            agent.worker.calibrate(what_fits(self._limit_bytes, self._runtime))

    def on_measured(self, measured: Measured) -> None:
        """Take what the worker found out; it ends, for it has imported more than rungs need."""
        log.info("this device is measured: %.0f MB before any task", measured.lean_bytes / 1e6)
        self.known = Calibration(
            key=present_key(self._threads, self._runtime),
            measured=measured,
            runtime=self._runtime,
        )
        save_calibration(self._folder, self._threads, self.known)
        self._agent.worker.stop()
        self._agent.replan()

    def on_too_much(self, tried: Calibrate) -> None:
        """The worker ran out of memory over it: measure less, or know that nothing fits."""
        if tried.full or tried.wide:
            self._agent.worker.calibrate(Calibrate(wide=False, full=False))
            return
        too_much = Measured(lean_bytes=self._limit_bytes)
        self.known = Calibration(measured=too_much, runtime=self._runtime)
        self._agent.replan()
