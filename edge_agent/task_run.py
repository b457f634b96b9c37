"""One task on its way through the agent: base, adapter, work, upload, report.

`TaskRun` holds what the supervisor must remember; `Supervisor.advance` moves it on. Each step
looks at what is there, so a step may be tried again after any interruption.
"""

import msgspec

from edge_agent.metering import Limits
from edge_agent.pausing import Comfort
from edge_agent.protocol import Finished
from edge_agent.silo import Silo
from wire.broker_settings import BrokerSettings
from wire.messages import Evaluation, Offer, RungPlan
from wire.work import Cleaning


class TaskRun:
    """The running task.

    Attributes:
        offer: what was asked for.
        line: of the ladder, on which it is done; a lower one once that has run out of memory.
        ends_at: monotonic time after which the hub doesn't want it any more.
        stage: base, adapter, work, paused, upload or report.
        pause_asked_at: monotonic time; None unless the worker is to let go of it.
        worker_deaths: how often a worker ended before it had the task.
    """

    def __init__(self, offer: Offer, line: RungPlan, now: float) -> None:
        self.offer = offer
        self.line = line
        self.ends_at = now + offer.deadline_s
        self.started_at = now
        self.stage = "base"
        self.step = 0
        self.steps = offer.work.steps if offer.work else 0
        self.loss: float | None = None
        self.working = False  # the worker has it
        self.pause_asked_at: float | None = None
        self.worker_deaths = 0
        self.evaluations: list[Evaluation] = []
        self.finished: Finished | None = None
        self.update: str | None = None  # sha256 of the packed update
        self.update_bytes = 0
        self.uploading = False
        self.uploaded = False
        self.reported = False
        self.failure: str | None = None
        self.adapter_wait_s = 0.0
        self.base = ""  # digest of the model that the worker took
        self.upload_started_at = 0.0
        self.upload_s = 0.0
        self.requests: list[str] = []  # ids that end with the task


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent was started with."""

    broker: str | BrokerSettings  # a bare URL needs no other setting
    fleet: str
    device: str
    enrolled: bool = False  # its certificate is in the state folder
    data: list[str]
    cleaning: Cleaning = Cleaning()
    state_folder: str
    memory_bytes: int | None = None
    threads: int = 1
    worker_idle_s: float = 300.0
    telemetry_s: float = 60.0
    conditions_s: float = 5.0  # how often they are read while a task is there
    comfort: Comfort = Comfort()
    limits: Limits = Limits()
    silo: Silo | None = None  # several processes in place of one worker
    system_root: str = "/"  # where proc and sys are, for the conditions; another folder in tests
