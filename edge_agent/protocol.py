"""What the supervisor and its worker say to one another: one JSON document a line, over pipes.

The supervisor writes `Command`s to the worker's standard input; the worker writes `Event`s to a
private copy of its standard output. Only paths, numbers and names cross; no tensors, no text.
"""

import msgspec

from wire.messages import Evaluation, LocalWork, TrainMetrics
from wire.messages.plan import Role


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm"):
    """Import what training needs, and say what that costs."""


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """Fetch a base model by its digest from ``http`` into ``folder``, resuming what is there."""

    http: str
    digest: str
    folder: str


class Work(msgspec.Struct, frozen=True, kw_only=True, tag="work"):
    """One task. ``parts`` are files of the global adapter, by the sha256 in its manifest."""

    task: str
    role: Role
    rung: str
    rank: int
    base_folder: str
    manifest: str  # file with the adapter's manifest
    parts: dict[str, str]
    data: list[str]  # files or folders of private text
    codec: str
    out: str  # folder for the update
    batch: int  # for evaluation; training has its own in `work`
    seq_len: int
    work: LocalWork | None = None  # None: evaluate only
    variants: list[str] = []


Command = Warm | Fetch | Work


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The worker is warm; ``runtime_bytes`` is its resident memory before any task."""

    runtime_bytes: int


class Fetched(msgspec.Struct, frozen=True, kw_only=True, tag="fetched"):
    """The base is complete and verified."""

    digest: str
    folder: str
    downloaded_bytes: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Sent at most a few times a second."""

    task: str
    stage: str  # fetch, load, evaluate, train, pack
    step: int = 0
    steps: int = 0
    loss: float | None = None


class Losses(msgspec.Struct, frozen=True, kw_only=True, tag="losses"):
    """The evaluations a task began with; training goes on."""

    task: str
    evaluations: list[Evaluation]


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The task's end. ``update`` is the packed update's file, None after an evaluation."""

    task: str
    update: str | None = None
    train: TrainMetrics | None = None


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The task could not be done; the worker lives on.

    ``kind`` is one of memory, data, model, adapter, network, other.
    """

    task: str
    kind: str
    message: str


Event = Ready | Fetched | Progress | Losses | Finished | Failed
