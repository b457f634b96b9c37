"""What happens to a job: each event is logged before it takes effect.

A job's state is what `hub.rounds.round.apply` makes of its events, in their order and at their
times. Events that name a round are only for that round.
"""

from typing import Literal

import msgspec

from hub.scheduling.contract import Member
from wire.messages.requests import Evaluation, TrainMetrics

#: By what adapters are compared: the devices' mean loss weighted by tokens, that of the worst tenth
#: of them, or the loss on the hub's own text. All in nats per token.
Metric = Literal["heldout_loss", "worst_tenth", "validation_loss"]
#: The last of them, by which the hub's own text is told in a round's record, too.
VALIDATION: Metric = "validation_loss"


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Which combined adapters are released: those hardly worse than the best released one."""

    metric: Metric
    max_regression: float  # as a share of the best one's loss


class Until(msgspec.Struct, frozen=True, kw_only=True):
    """When a job ends before its last round: so many rounds brought no improvement."""

    metric: Metric
    patience: int  # rounds
    min_delta: float  # nats per token; less than this is no improvement


class RoundRules(msgspec.Struct, frozen=True, kw_only=True):
    """What of the job file the rounds depend on."""

    job: str
    rounds: int
    evaluation_s: float = 120.0  # how long the final evaluation lasts at most
    max_staleness: int = 4  # rounds by which an update may be late; older adapters are deleted
    publish_if: Gate | None = None  # None: every round's adapter is released
    until: Until | None = None
    start_is_base: bool = False  # the first adapter changes nothing: LoRA's B is 0


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the events; ``kind`` in JSON is the type's name."""


class Submitted(_Event, frozen=True, kw_only=True):
    """The job exists. Always a log's first event."""

    rules: RoundRules
    start: str  # sha256 of the manifest of the adapter before round 1


class Waiting(_Event, frozen=True, kw_only=True):
    """The scheduler found no cohort, and says why."""

    round: int
    reason: str


class Opened(_Event, frozen=True, kw_only=True):
    """The cohort of a round's attempt.

    For the final evaluation, ``round`` is one past the last round, and a second event adds
    devices that came meanwhile. So it does while a round's candidate is evaluated; ``attempt`` is
    that evaluation's then.
    """

    round: int
    attempt: int
    members: tuple[Member, ...]
    deadline_s: float  # from this event
    min_updates: int = 1
    target: int | None = None  # updates that suffice to close at once; None: wait for everyone
    left_out: dict[str, str] = {}  # device -> why it isn't a member


class Taken(_Event, frozen=True, kw_only=True):
    """The device took its offer."""

    round: int
    device: str
    candidate: bool = False  # whether its task is to evaluate the round's candidate


class Declined(_Event, frozen=True, kw_only=True):
    """The device does not want its task, or gave it up."""

    round: int
    device: str
    reason: str
    candidate: bool = False


class UpdateAccepted(_Event, frozen=True, kw_only=True):
    """A device's update is complete, checked and on disk."""

    round: int
    device: str
    sha256: str
    size_bytes: int
    train: TrainMetrics
    download_s: float = 0.0
    upload_s: float = 0.0
    peak_bytes: int = 0


class TaskFailed(_Event, frozen=True, kw_only=True):
    """Training or evaluation ended without a result; also an update that failed its checks."""

    round: int
    device: str
    reason: str
    candidate: bool = False


class Evaluated(_Event, frozen=True, kw_only=True):
    """Losses of the adapter with which the round began, on the device's own held-out text.

    Those of the round's ``candidate``, if the task was to evaluate that.
    """

    round: int
    device: str
    evaluations: tuple[Evaluation, ...]
    candidate: bool = False


class DeviceLost(_Event, frozen=True, kw_only=True):
    """The device's session ended."""

    device: str


class DeviceBack(_Event, frozen=True, kw_only=True):
    """The device greeted, in a new session or after a loss: its open offer is sent again."""

    device: str


class HubBack(_Event, frozen=True, kw_only=True):
    """The hub heard nobody for a while, as it or its broker was away; deadlines move by that."""

    away_s: float


class Clock(_Event, frozen=True, kw_only=True):
    """Time has passed; that alone closes a round."""


class Combined(_Event, frozen=True, kw_only=True):
    """The round's updates became an adapter, which is on disk."""

    round: int
    manifest: str  # sha256
    record: dict[str, float] = {}  # what the combination measured
    state: str | None = None  # sha256 of what the strategy keeps with the adapter
    problem: str = ""  # why the hub's own text is not in it, or was not measured


class CombineFailed(_Event, frozen=True, kw_only=True):
    """The updates can't be combined; with a ``device``, because of that device's blob alone."""

    round: int
    reason: str
    device: str | None = None


class Published(_Event, frozen=True, kw_only=True):
    """The round's adapter was announced."""

    round: int


class Cancelled(_Event, frozen=True, kw_only=True):
    """A person ended the job."""

    reason: str


Event = (
    Submitted
    | Waiting
    | Opened
    | Taken
    | Declined
    | UpdateAccepted
    | TaskFailed
    | Evaluated
    | DeviceLost
    | DeviceBack
    | HubBack
    | Clock
    | Combined
    | CombineFailed
    | Published
    | Cancelled
)

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the event as JSON.

    Raises:
        ValueError: it holds a number that JSON can't carry (infinite or NaN): a replay of the log
            would not see what we see.
    """
    payload = _encoder.encode(event)
    try:
        same = _decoder.decode(payload) == event
    except msgspec.DecodeError:
        same = False
    if not same:
        raise ValueError(f"{event!r} can't be logged: a number in it is infinite or not one.")
    return payload


def decode_event(payload: bytes | str) -> Event:
    """Return the event of a logged JSON document.

    Raises:
        msgspec.DecodeError: it is no event of this version.
    """
    return _decoder.decode(payload)
