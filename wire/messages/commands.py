"""What the hub tells one device. A command names the session it is meant for."""

from typing import Annotated, Literal

import msgspec

from wire.messages.contract import Message
from wire.messages.hub import AdapterRef
from wire.messages.plan import Role, Word


class BlobRef(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that the hub has."""

    sha256: str
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**28)]


class Adversarial(msgspec.Struct, frozen=True, kw_only=True):
    """Training on embeddings that are moved against the model, besides those that are not."""

    kind: str  # fgm
    epsilon: float  # norm of a sequence's move, at the first block's input


class ForwardOnly(msgspec.Struct, frozen=True, kw_only=True):
    """Training of cores without backprop (`wire.forward_only`); a step is one direction.

    The cores' side is the offer's rank, less where a target has less.
    """

    version: int  # of the directions and of the update's bytes
    epsilon: float  # how far is looked first, in an entry of a core
    fresh: Annotated[int, msgspec.Meta(ge=1)]  # directions that are looked along on the same rows
    reach: float  # greatest root mean square of a core's move that is accepted


class LocalWork(msgspec.Struct, frozen=True, kw_only=True):
    """One device's training in one round."""

    steps: int
    batch: int
    seq_len: int
    optimizer: str
    lr: float
    seed: int
    momentum: float = 0.0  # of sgd
    weight_decay: float | None = None  # None: the role's own
    schedule: str = "constant"  # of the learning rate: constant, linear, cosine
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] | None = None  # None: the device's own
    clip: float | None = 1.0  # of all gradients' norm; None: off
    accumulate: Annotated[int, msgspec.Meta(ge=1)] = 1  # parts that a step's batch goes through in
    adversarial: Adversarial | None = None
    proximal_mu: float = 0.0  # FedProx: mu times the distance to the start is added to a gradient
    control: BlobRef | None = None  # SCAFFOLD: the mean of all control variates, packed; None: 0
    own_control: BlobRef | None = None  # and the device's own: control - own is added to a gradient
    trains: Word = "both"  # which LoRA factors: both, a or b; the others stay as they are
    rest: Word = "frozen"  # the components behind the device's own, while it trains: or absent
    forward: ForwardOnly | None = None  # on rung forward-only


class Offer(Message, frozen=True, kw_only=True):
    """A task. The device answers with `Take`; the hub repeats the offer until it did."""

    ROUTE = "command"
    NAME = "offer"

    session: str
    task: str  # {job}.{round}.{device}: the same for every repetition
    job: str
    round: int
    kind: Literal["train", "evaluate"]
    role: Role
    rung: str
    rank: int  # of this device's LoRA factors, or the side of its cores; 0 for other roles
    adapter: AdapterRef
    base: str  # digest
    http: str  # where the base is fetched
    codec: str
    work: LocalWork | None = None
    variants: list[str] = []  # what to evaluate before training
    deadline_s: float  # from receipt: devices' clocks are often wrong
    reason: str = ""
    accepted: str = ""  # the device's last accepted task; with codecs that need error feedback


class Cancel(Message, frozen=True, kw_only=True):
    """The task is not wanted any more."""

    ROUTE = "command"
    NAME = "cancel"

    session: str
    task: str
    reason: str


class Report(Message, frozen=True, kw_only=True):
    """Say hello again, and publish state and info anew: the hub wants to know who is there."""

    ROUTE = "command"
    NAME = "report"

    session: str
