"""What a worker is asked to do on a base model, and what it answers: one JSON document a line.

A *worker* is the process that imports torch (`edge_agent.worker`). A device's supervisor has one,
and the hub starts one for text of its own; neither imports torch. Only paths, numbers and names
cross; no tensors, no text.
"""

import msgspec

from wire.messages import DataSummary, Evaluation, LocalWork, TrainMetrics
from wire.messages.plan import Role


class Cleaning(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to a device's text before it is used.

    Attributes:
        redact: whether e-mail addresses, phone and card numbers are replaced by a word.
        near_duplicates: whether plain texts go that are nearly the same as one before.
        min_letters: a text with fewer letters and digits is too short.
    """

    redact: bool = False
    near_duplicates: bool = False
    min_letters: int = 1


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
    data: list[str]  # files or folders of text
    cleaning: Cleaning = Cleaning()
    hold_out: bool = True  # False: all text is trained on, or measured on, not nine tenths or one
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


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The task could not be done; the worker lives on.

    ``kind`` is one of memory, data, model, difference, adapter, network, derived,
    other.
    """

    task: str
    kind: str
    message: str


#: What a worker reports of a `Work`.
WorkEvent = Progress | Counted | Losses | Finished | Failed
