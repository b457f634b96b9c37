"""A job's state: values only. It is never changed; `hub.rounds.round.apply` makes a new one."""

from typing import Any, Literal

import msgspec

from hub.rounds.events import Metric, RoundRules
from hub.scheduling.contract import Member
from wire.messages.hub import JobPhase
from wire.messages.plan import Role
from wire.messages.requests import Evaluation, TrainMetrics

#: Where a member's task stands. ``missed``: its round closed without it; ``late``: its update
#: came after that and entered a later round.
TaskState = Literal["offered", "taken", "delivered", "failed", "declined", "missed", "late"]
#: Of one round. A round that was rolled back is over, so no job is ever announced to be there.
RecordPhase = Literal[JobPhase, "rolled_back"]


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted update."""

    device: str
    round: int  # whose task it answers
    start: str  # sha256 of the manifest of the adapter it started from
    sha256: str
    size_bytes: int
    role: Role
    rank: int
    rung: str = ""
    tokens: int  # on which a loss was taken; at most what the device was asked for
    steps: int = 1  # that the device was asked for
    train: TrainMetrics
    download_s: float
    upload_s: float
    peak_bytes: int

    @property
    def based_on(self) -> int:
        """The round after which the adapter it started from was published; 0: the start."""
        return self.round - 1

    def staleness(self, round_: int) -> int:
        """Return by how many rounds it is late when it is combined in ``round_``."""
        return round_ - self.round


class MemberState(msgspec.Struct, frozen=True, kw_only=True):
    """A member and its task."""

    member: Member
    attempt: int
    state: TaskState = "offered"
    lost: bool = False  # not connected; may come back
    reason: str = ""  # why it failed or declined

    @property
    def owes(self) -> bool:
        """Whether its round still hopes for it."""
        return self.state in ("offered", "taken")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluation of a combined adapter by all devices, before it is released."""

    attempt: int = 1
    members: dict[str, MemberState] = {}
    losses: dict[str, Evaluation] = {}  # by device

    def change(self, **changes: Any) -> "Candidate":
        """Return a copy with other values."""
        return msgspec.structs.replace(self, **changes)

    def with_member(self, device: str, **changes: Any) -> "Candidate":
        """Return a copy in which one member differs."""
        member = msgspec.structs.replace(self.members[device], **changes)
        return self.change(members={**self.members, device: member})


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A round's adapter beside a released one, as the same devices measured both."""

    metric: Metric
    loss: float  # of the round's adapter, in nats per token
    reference: float  # of the released one
    reference_round: int  # after which that was released; 0: the start
    devices: int  # that measured both; 0: measured on the hub's own text

    @property
    def regression(self) -> float:
        """By which share the loss is above the reference's; below 0: an improvement."""
        if self.reference > 0:
            return self.loss / self.reference - 1.0
        return 0.0 if self.loss <= 0 else float("inf")


class RoundRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All about one round. The final evaluation is one, too: one past the last."""

    round: int
    start: str  # sha256 of the manifest of the adapter with which it begins
    phase: RecordPhase = "open"
    attempt: int = 1
    opened_at: float | None = None  # of this attempt
    deadline_s: float = 0.0
    deadline: float | None = None  # Unix time; in a second attempt's wait: when it is given up
    min_updates: int = 1
    target: int | None = None
    members: dict[str, MemberState] = {}
    left_out: dict[str, str] = {}
    exclude: tuple[str, ...] = ()
    accepted: dict[str, Update] = {}  # of this round's own tasks
    stale: dict[str, Update] = {}  # came late for an earlier round, entered at the close
    superseded: tuple[Update, ...] = ()  # stale ones whose device sent a fresher one
    spoiled: dict[str, str] = {}  # device -> why its accepted update can't be combined
    losses: dict[str, dict[str, Evaluation]] = {}  # device -> variant -> loss
    waiting: str = ""
    closed_at: float | None = None
    close_reason: str = ""
    start_state: str | None = None  # sha256 of what the strategy keeps with ``start``
    combined: str | None = None  # sha256 of the new adapter's manifest
    combined_state: str | None = None  # and of what the strategy keeps with that
    record: dict[str, float] = {}
    problem: str = ""  # with the hub's own text
    candidate: Candidate | None = None
    comparison: Comparison | None = None  # by which it was released or rolled back
    published_at: float | None = None
    rolled_back_at: float | None = None
    reason: str = ""  # why it failed or was rolled back

    @property
    def collects(self) -> bool:
        """Whether an update for this round counts in it now."""
        return self.phase in ("offering", "training", "collecting") or (
            self.phase == "open" and self.attempt > 1
        )

    def change(self, **changes: Any) -> "RoundRecord":
        """Return a copy with other values."""
        return msgspec.structs.replace(self, **changes)

    def with_member(self, device: str, **changes: Any) -> "RoundRecord":
        """Return a copy in which one member differs."""
        member = msgspec.structs.replace(self.members[device], **changes)
        return self.change(members={**self.members, device: member})


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """A job, from its log. Before its first event it has no rules."""

    rules: RoundRules | None = None
    adapter: str = ""  # sha256 of the published adapter's manifest
    best: int = 0  # the round whose released adapter the next candidate is compared with; 0: start
    stopped_after: int | None = None  # the last round, if that came before the job file's
    records: tuple[RoundRecord, ...] = ()  # round t at index t - 1
    late: dict[str, Update] = {}  # wait for the next close
    ended: Literal["done", "failed", "cancelled"] | None = None
    ended_at: float | None = None
    reason: str = ""

    @property
    def current(self) -> RoundRecord:
        """The round under way, or the last one.

        Raises:
            IndexError: the job was not submitted yet.
        """
        return self.records[-1]

    @property
    def phase(self) -> JobPhase:
        """Where the job stands."""
        if self.ended is not None:
            return self.ended
        phase = self.current.phase if self.records else "open"
        return "published" if phase == "rolled_back" else phase

    @property
    def last_round(self) -> int:
        """The round after which the job ends, as far as that is known."""
        rounds = self.rules.rounds if self.rules is not None else 0
        return rounds if self.stopped_after is None else self.stopped_after

    @property
    def adapter_round(self) -> int:
        """The round after which the newest adapter was released; 0: the start."""
        released = (one.round for one in self.records if one.published_at is not None)
        return max(released, default=0)

    def step(self, round_: int) -> int:
        """Return which round it is, counted from 1, without those that were rolled back.

        What a rule does first, it does again if that was rolled back.
        """
        before = self.records[: max(0, round_ - 1)]
        return 1 + sum(one.rolled_back_at is None for one in before)

    def record(self, round_: int) -> RoundRecord | None:
        """Return a round's record; None if there is none yet."""
        return self.records[round_ - 1] if 1 <= round_ <= len(self.records) else None

    def with_record(self, record: RoundRecord) -> "JobState":
        """Return a copy with one round's record replaced."""
        records = list(self.records)
        records[record.round - 1] = record
        return self.change(records=tuple(records))

    def change(self, **changes: Any) -> "JobState":
        """Return a copy with other values."""
        return msgspec.structs.replace(self, **changes)


def contributions(state: JobState) -> dict[str, Update]:
    """Return the updates with which the current round would close now, in device order."""
    record = state.current
    found = {**record.stale, **state.late, **record.accepted}
    return {device: found[device] for device in sorted(found)}


def combined_updates(record: RoundRecord) -> tuple[Update, ...]:
    """Return the updates of a round that has closed, in device order."""
    found = {**record.stale, **record.accepted}
    return tuple(found[device] for device in sorted(found))
