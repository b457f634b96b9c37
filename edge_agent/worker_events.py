"""What the worker says, and its death: handed to whom it concerns."""

import logging
from typing import TYPE_CHECKING

from edge_agent.protocol import (
    Calibrate,
    Calibrated,
    Failed,
    Fetched,
    Finished,
    Losses,
    Paused,
    Progress,
)

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


class WorkerEvents:
    """Handles the events of the present worker; an older one's are passed over before.

    Args:
        agent: whose worker it is.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent

    def on_event(self, event: object) -> None:
        """Handle what the worker said."""
        agent = self._agent
        match event:
            case Calibrated(measured=measured):
                agent.calibrating.on_measured(measured)
            case Progress(stage="fetch", fetched_bytes=fetched):
                agent.metering.on_fetched(fetched)
                agent.tasks.on_worker(event)
            case Fetched():
                agent.metering.on_fetched(event.downloaded_bytes)
                agent.worker.on_fetched(event)
                agent.tasks.advance()
            case Failed(kind="memory"):
                log.warning("the worker failed: %s", event.message)
                calibrating = agent.worker.calibrating
                agent.worker.stop()  # a fresh one has all of its memory, in whole pieces
                self._on_out_of_memory(event.message, calibrating)
            case Failed(kind="difference"):
                agent.worker.on_idle()
                agent.tasks.on_wrong_difference(event.message)
            case Failed(kind="derived") if (fetch := agent.worker.fetching) is not None:
                agent.worker.on_idle()
                log.warning("%s", event.message)
                agent.teller.event(event.kind, event.message)
                agent.setbacks.not_made(fetch, event.message)
            case Failed():
                agent.worker.on_idle()
                log.warning("the worker failed (%s): %s", event.kind, event.message)
                agent.teller.event(event.kind, event.message)
                agent.tasks.fail(f"{event.kind}: {event.message}")
            case Progress() | Losses() | Finished() | Paused():
                agent.tasks.on_worker(event)
            case _:
                log.debug("passed over %s", type(event).__name__)

    def on_death(self, code: int) -> None:
        """Handle that the worker ended with an exit code."""
        agent = self._agent
        over, calibrating = agent.worker.ran_out(code), agent.worker.calibrating
        agent.worker.on_death()
        log.warning("the worker ended with code %d%s", code, " (over its memory)" if over else "")
        if over:
            self._on_out_of_memory(f"the worker was killed (code {code})", calibrating)
        else:
            agent.tasks.fail(f"the worker ended with code {code}")

    def _on_out_of_memory(self, reason: str, calibrating: Calibrate | None) -> None:
        if calibrating is not None:
            self._agent.calibrating.on_too_much(calibrating)
        self._agent.setbacks.out_of_memory(reason)
