"""What the hub tells everybody: its own state, and each job's round."""

from typing import Annotated, Literal

import msgspec

from wire.manifest import MAX_MANIFEST_BYTES
from wire.messages.contract import Message
from wire.messages.plan import JobKnobs, ModelShape, Word

JobPhase = Literal[
    "open", "offering", "training", "collecting", "aggregating", "published",
    "evaluating", "done", "failed", "cancelled",
]  # fmt: skip


class HubState(Message, frozen=True, kw_only=True):
    """Retained, and the hub's last will with ``online=false``."""

    ROUTE = "hub_state"
    RETAIN = True
    WILL = {"online": False, "ts": 0}

    online: bool
    ts: float  # Unix time, seconds
    epoch: str  # new for each start of the hub
    http: str | None = None  # where models are fetched: http://host:port


class BaseRef(msgspec.Struct, frozen=True, kw_only=True):
    """A base model, named by the digest of its folder's manifest."""

    name: str
    digest: str  # sha256, hexadecimal
    size_bytes: int
    shape: ModelShape
    #: Files that the hub makes of it for devices without torch (`wire.derived`), the best first.
    derived: Annotated[list[Word], msgspec.Meta(max_length=16)] = []


class AdapterRef(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a published adapter; `wire.manifest.AdapterManifest` is its content."""

    sha256: str
    # It is read into memory whole, so a device gathers no larger one.
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_MANIFEST_BYTES)]


class RoundAnnounce(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A job and its newest adapter; retained, so that a device that comes later sees it.

    Once a round: what devices work with. `RoundPhase` tells the rest to whoever watches.
    """

    ROUTE = "job_round"
    RETAIN = True

    job: str
    round: int  # 0 before the first round opens
    rounds: int
    phase: JobPhase
    ts: float
    knobs: JobKnobs
    base: BaseRef
    adapter: AdapterRef | None = None
    deadline_ts: float | None = None
    reason: str | None = None


class RoundPhase(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job stands; retained. For people and programs that watch: devices don't listen."""

    ROUTE = "job_phase"
    RETAIN = True

    job: str
    round: int  # 0 before the first round opens
    rounds: int
    phase: JobPhase
    ts: float
    deadline_ts: float | None = None
    reason: str | None = None
