"""What the supervisor and its worker say to one another: one JSON document a line, over pipes.

The supervisor writes `Command`s to the worker's standard input; the worker writes `Event`s to a
private copy of its standard output. Only paths, numbers and names cross; no tensors, no text.
"""

from typing import Literal

import msgspec

from edge_agent.calibration import Measured
from edge_agent.training.cleaning import Cleaning
from wire.messages import DataSummary, Evaluation, LocalWork, TrainMetrics
from wire.messages.plan import Role


class Warm(msgspec.Struct, frozen=True, kw_only=True, tag="warm"):
    """Import what training needs, and say what that costs.

    ``full`` takes transformers and PEFT as well, which only resident rungs need.
    """

    full: bool = False


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """Fetch a base model by its digest from ``http`` into ``folder``, resuming what is there."""

    http: str
    digest: str
    folder: str
    bytes_per_s: float | None = None  # the device's limits; None: none
    most_bytes: int | None = None


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the adapter that is made of an older one and differences (`wire.frames`)."""

    part: str  # its sha256, as its manifest names it
    held: str  # file of the older part, whole
    differences: list[str]  # files, the oldest first


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job's residual is, for codecs that leave much out (`edge_agent.training.feedback`).

    ``accepted`` is the device's last task in the job whose update the hub accepted, or empty.
    """

    folder: str
    accepted: str


class Work(msgspec.Struct, frozen=True, kw_only=True, tag="work"):
    """One task. ``parts`` are files of the global adapter, by the sha256 in its manifest.

    Those in ``following`` are made first, and put into the folder ``blobs``.
    """

    task: str
    role: Role
    rung: str
    rank: int
    base_folder: str
    manifest: str  # file with the adapter's manifest
    parts: dict[str, str]
    following: list[Following] = []
    components: int = 0  # of LoRA, the leading ones, that these parts hold; 0: all
    blobs: str = ""
    data: list[str]  # files or folders of private text
    cleaning: Cleaning = Cleaning()
    codec: str
    out: str  # folder for the update
    batch: int  # for evaluation; training has its own in `work`
    seq_len: int
    work: LocalWork | None = None  # None: evaluate only
    variants: list[str] = []
    checkpoint: str | None = None  # file that the training state is kept in, and taken up from
    feedback: Feedback | None = None
    control: str | None = None  # files of the control variates that `work` names: all devices' mean
    own_control: str | None = None  # and this device's own


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


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Sent at most a few times a second."""

    task: str
    stage: str  # fetch, load, evaluate, train, pack
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_step: float = 0.0  # that a loss is taken on
    fetched_bytes: int = 0  # in stage fetch, by this fetch so far


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """How much text there is."""

    task: str
    data: DataSummary


class Losses(msgspec.Struct, frozen=True, kw_only=True, tag="losses"):
    """The evaluations a task began with; training goes on. A local task ends with some, too."""

    task: str
    evaluations: list[Evaluation]


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The task's end. ``update`` is the packed update's file, None after an evaluation."""

    task: str
    update: str | None = None
    train: TrainMetrics | None = None


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


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The task could not be done; the worker lives on.

    ``kind`` is one of memory, data, model, difference, adapter, network, other.
    """

    task: str
    kind: str
    message: str


class Calibrated(msgspec.Struct, frozen=True, kw_only=True, tag="calibrated"):
    """What was measured."""

    measured: Measured


Event = (
    Ready
    | Calibrated
    | Fetched
    | Progress
    | Counted
    | Losses
    | Finished
    | Paused
    | TrainedLocal
    | Failed
)
