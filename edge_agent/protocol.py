"""What the supervisor and its worker say to one another: one JSON document a line, over pipes.

The supervisor writes `Command`s to the worker's standard input; the worker writes `Event`s to a
private copy of its standard output. Only paths, numbers and names cross; no tensors, no text.
What concerns a task on a base and an adapter of a hub is in `wire.work`: the hub says it, too.
"""

from typing import Literal

import msgspec

from edge_agent.calibration import Measured
from wire.messages import LocalWork
from wire.messages.plan import Role
from wire.work import (
    Cleaning,
    Counted,
    Failed,
    Feedback,
    Finished,
    Following,
    Losses,
    Progress,
    Work,
    WorkEvent,
)

__all__ = [
    "Calibrate",
    "Calibrated",
    "Command",
    "Counted",
    "Event",
    "Failed",
    "Feedback",
    "Fetch",
    "Fetched",
    "Finished",
    "Following",
    "Losses",
    "Pause",
    "Paused",
    "Progress",
    "Ready",
    "TrainLocal",
    "TrainedLocal",
    "Warm",
    "Work",
]


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm"):
    """Import what tasks need, and say what that costs.

    ``full`` takes transformers and PEFT as well, which only resident rungs need.
    """

    full: bool = False


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """Fetch a base model by its digest from ``http`` into ``folder``, resuming what is there.

    ``derived`` names the kind of file that the hub makes of it for engines; empty: the base itself.
    """

    http: str
    digest: str
    folder: str
    derived: str = ""
    bytes_per_s: float | None = None  # the device's limits; None: none
    most_bytes: int | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag="pause"):
    """Save the running task's training state and let go of it, as soon as a step ends."""

    task: str


class TrainLocal(msgspec.Struct, frozen=True, kw_only=True, tag="train-local"):
    """One task without a hub: a fresh adapter, trained, evaluated and written as a PEFT folder."""

    task: str
    role: Role
    rung: str
    rank: int  # of LoRA factors, or a core's side; 0 for prompts
    model: str  # a Hugging Face folder, or a GGUF file
    data: list[str]  # files or folders of private text
    cleaning: Cleaning = Cleaning()
    out: str  # folder for the adapter
    prompt_kind: Literal["soft", "prefix"] = "soft"
    prompt_tokens: int = 0
    work: LocalWork
    checkpoint: str  # file that the training state is kept in, and taken up from


class Calibrate(msgspec.Struct, frozen=True, kw_only=True, tag="calibrate"):
    """Measure what this runtime weighs and how fast it is; `Calibrated` follows.

    ``wide`` and ``full`` tell what there is room for; see `edge_agent.calibration`.
    """

    wide: bool
    full: bool


Command = Warm | Fetch | Work | Pause | TrainLocal | Calibrate


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The worker is warm; ``runtime_bytes`` is its resident memory before any task."""

    runtime_bytes: int
    full: bool = False  # as `Warm`


class Fetched(msgspec.Struct, frozen=True, kw_only=True, tag="fetched"):
    """The base is complete and verified."""

    digest: str
    folder: str
    downloaded_bytes: int


class Paused(msgspec.Struct, frozen=True, kw_only=True, tag="paused"):
    """The task is let go of, as asked; the same `Work` goes on after ``step``."""

    task: str
    step: int


class TrainedLocal(msgspec.Struct, frozen=True, kw_only=True, tag="trained-local"):
    """The end of `TrainLocal`."""

    task: str
    adapter: str  # the PEFT folder
    losses: list[float]  # mean per token, of each step
    seconds: list[float]  # of each step; those before a resume are not known
    tokens_per_second: float  # that a loss is taken on


class Calibrated(msgspec.Struct, frozen=True, kw_only=True, tag="calibrated"):
    """What was measured."""

    measured: Measured


Event = WorkEvent | Ready | Calibrated | Fetched | Paused | TrainedLocal
