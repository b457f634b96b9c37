"""Watches how the device fares while there is a worker, and lets its task rest when it must."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.pausing import Trouble, Watch
from edge_agent.probe.conditions import Conditions, conditions
from edge_agent.probe.memory import memory
from wire.messages.device import State

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


class Resting:
    """The device's conditions, and the trouble that is in force.

    Args:
        agent: whose task rests.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._root = Path(agent.settings.system_root)
        self._watch = Watch(agent.settings.comfort)
        self._next = 0.0
        self._read_at = float("-inf")
        self._conditions: Conditions | None = None

    @property
    def trouble(self) -> Trouble | None:
        """Why no task goes on now."""
        return self._watch.trouble

    @property
    def state(self) -> tuple[State, str | None]:
        """The device's state in Homie's life cycle, and its reason.

        Source: https://homieiot.github.io/specification/, "Device Lifecycle": ``alert`` says that
        something is wrong and wants attention; ``sleeping`` is for a device that saves its battery.
        """
        trouble = self.trouble
        if trouble is None:
            saving = self._agent.metering.reason
            return ("ready", None) if saving is None else ("sleeping", saving)
        return "sleeping" if trouble.kind == "battery" else "alert", trouble.reason

    def conditions(self) -> Conditions:
        """Return how the device fares, as of a few seconds ago at most."""
        now = time.monotonic()
        if self._conditions is None or now - self._read_at >= self._agent.settings.conditions_s:
            self._read_at = now
            self._conditions = conditions(self._root)
        return self._conditions

    def tick(self, now: float) -> None:
        """Read what is due; let the task rest, or go on."""
        agent = self._agent
        idle = agent.tasks.current is None and agent.worker.pid is None
        if now < self._next or (idle and self.trouble is None):
            return
        self._next = now + agent.settings.conditions_s
        before = self.trouble
        self._watch.read(self.conditions(), self._free_share())
        trouble = self.trouble
        if trouble is None and before is not None:
            log.info("the device fares well again")
            self._tell()
            agent.tasks.advance()
        elif trouble is not None and (before is None or before.kind != trouble.kind):
            log.warning("no task goes on: %s", trouble.reason)
            agent.teller.event(trouble.kind, trouble.reason)
            self._tell()
        if trouble is not None:
            agent.setbacks.ask_to_rest()
            if trouble.kind == "pressure" and agent.tasks.current is None:
                agent.worker.stop()  # it is kept warm only while that costs nobody anything

    def _tell(self) -> None:
        if self._agent.welcomed:
            self._agent.teller.state(*self.state)

    def _free_share(self) -> float | None:
        """Return the part of the machine's memory that is free beside the task."""
        found = memory(self._root)
        if found.available_bytes is None or not found.total_bytes:
            return None
        task = self._agent.tasks.current
        wanted_bytes = 0
        if task is not None and not task.working:
            wanted_bytes = task.line.predicted_peak_bytes - self._agent.resident_bytes()
        return (found.available_bytes - max(0, wanted_bytes)) / found.total_bytes
