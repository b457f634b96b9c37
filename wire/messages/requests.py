"""What a device asks of the hub. Every request has an id; its reply names it in ``re``.

An MQTT acknowledgement is never taken as delivery: a request is repeated, with the same id,
until it was replied to, and each one is idempotent. So neither requests nor replies ask for one
(QoS 0): it would cost a frame of its own each time.
"""

from typing import Annotated, Literal

import msgspec

from wire.messages.contract import Message
from wire.messages.plan import Word

#: Ranges of chunk indices, as [first, count] pairs.
Ranges = list[tuple[int, int]]
#: So many of a digest's digits tell whether two models are the same, by mistake or not.
BASE_DIGITS = 16
#: Of a list of chunk digests that stands in a message; `wire.chunk_hashes` keeps within it.
MAX_INLINE_BYTES = 4096


class Hello(Message, frozen=True, kw_only=True):
    """The first request of a session; also sent again after each reconnect."""

    ROUTE = "request"
    QOS = 0
    NAME = "hello"
    ANSWERS = ("Welcome", "Refused")

    id: str
    session: str
    agent_version: str
    wire_version: int


class Take(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The device takes an offered task, or declines it with a reason."""

    ROUTE = "request"
    QOS = 0
    NAME = "take"
    ANSWERS = ("Accepted", "Refused")

    id: str
    session: str
    task: str
    accept: bool
    reason: str | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Mean loss per token on the device's own held-out tenth.

    ``variant`` is ``base`` (no adapter), ``adapter`` (all of it) or ``without_prompt``.
    """

    variant: str
    loss: float
    tokens: int
    rank: int = 0  # leading LoRA components that the device took; 0: all


class Evaluated(Message, frozen=True, kw_only=True):
    """Losses of the adapter with which a task began; sent before training starts."""

    ROUTE = "request"
    QOS = 0
    NAME = "evaluated"
    ANSWERS = ("Accepted", "Refused")

    id: str
    session: str
    task: str
    job: str
    round: int
    evaluations: list[Evaluation]


class BlobInit(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The device wants to upload a blob for a task. Replied to with `Credit`.

    The reply is `Accepted` where the hub has the blob already. With ``follows`` the only chunk of
    the blob comes right behind, and the reply tells of it, too.
    """

    ROUTE = "request"
    QOS = 0
    NAME = "blob-init"
    ANSWERS = ("Credit", "Accepted", "Refused")

    id: str
    session: str
    task: str
    sha256: str
    size_bytes: int
    # Digests of the chunks, once the hub has said that some are wrong; or, if they are many, the
    # sha256 of a blob that holds them and was uploaded before.
    hashes: Annotated[bytes, msgspec.Meta(max_length=MAX_INLINE_BYTES)] = b""
    hashes_sha256: str = ""
    follows: bool = False
    # The device takes `Credit` for which it did not ask.
    unasked: bool = False


class BlobFin(Message, frozen=True, kw_only=True):
    """What arrived of the chunks sent so far? Asked after each half of a window.

    Where the hub tells by itself (`Credit.unasked`), it is asked only behind the last chunk, when
    one seems lost, or when nothing was heard for a while. Replied to with `Credit` (what is
    missing) or, once all are there and on disk, `Accepted`; with a `Refused` that is not final if
    the hub, started anew, knows nothing of the upload.
    """

    ROUTE = "request"
    QOS = 0
    NAME = "blob-fin"
    ANSWERS = ("Credit", "Accepted", "Refused")

    id: str
    session: str
    task: str
    sha256: str


class BlobGet(Message, frozen=True, kw_only=True):
    """The device lacks these chunks of a blob; at most a window of them comes back.

    ``missing=None`` asks for the blob's size and its first window.
    """

    ROUTE = "request"
    QOS = 0
    NAME = "blob-get"
    ANSWERS = ("BlobInfo", "Refused")

    id: str
    session: str
    sha256: str
    missing: Ranges | None = None


class TrainMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a training task measured."""

    steps: int
    tokens: int  # on which a loss was taken
    loss_first: float
    loss_last: float
    seconds_per_step: float
    load_s: float = 0.0  # before the first step: model, adapter, data


class Result(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A task's end. With an update, ``sha256`` names its accepted blob.

    Replied to with `Accepted` or `Refused`; only then does the device forget the update.
    """

    ROUTE = "request"
    QOS = 0
    NAME = "result"
    ANSWERS = ("Accepted", "Refused")

    id: str
    session: str
    task: str
    job: str
    round: int
    status: Literal["done", "failed"]
    sha256: str | None = None
    reason: str | None = None
    train: TrainMetrics | None = None
    evaluations: list[Evaluation] = []
    rung: Word = ""  # on which it was done in the end
    peak_bytes: int = 0  # of supervisor and worker together, during the task
    predicted_peak_bytes: int = 0  # of that rung
    bytes_up: int = 0  # since the agent's start, whole MQTT packets
    bytes_down: int = 0
    download_s: float = 0.0
    upload_s: float = 0.0
    upload_bytes: int = 0
    base: Word = ""  # first `BASE_DIGITS` of the digest of the model that was trained on
