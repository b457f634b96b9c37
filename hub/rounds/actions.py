"""What should be going on now. Derived from a job's state, so nothing is lost with the process.

An action is wanted until an event says that it was done; the coordinator decides how often it
repeats itself.
"""

import msgspec

from hub.rounds.state import Update
from hub.scheduling.contract import Member
from wire.messages.hub import JobPhase


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """What the job's retained announcement should say; publish it when it differs."""

    round: int  # the job's last one during and after the final evaluation
    phase: JobPhase
    adapter: str  # sha256 of the manifest
    deadline_ts: float | None
    reason: str


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Schedule a cohort and log `Opened`, or `Waiting` with the reason when it is a new one."""

    round: int
    attempt: int
    exclude: tuple[str, ...]
    need: int | None  # training devices that suffice; None: the job's minimum


class OpenEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Log `Opened` with the ready devices that aren't in ``known``, as evaluators."""

    round: int
    attempt: int = 1
    known: tuple[str, ...]
    remaining_s: float
    candidate: str | None = None  # sha256 of the manifest; None: the final evaluation


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The member has neither taken nor ended its task."""

    round: int
    member: Member
    candidate: bool = False  # whether it is to evaluate the round's candidate
    start: str  # sha256 of the manifest of the adapter it works on
    state: str | None = None  # sha256 of what the strategy keeps with it
    deadline_ts: float


class CancelTask(msgspec.Struct, frozen=True, kw_only=True):
    """The device may stop its task."""

    round: int
    device: str
    reason: str
    candidate: bool = False


class CloseRound(msgspec.Struct, frozen=True, kw_only=True):
    """Time alone changes the state: log `Clock`."""

    round: int


class Combine(msgspec.Struct, frozen=True, kw_only=True):
    """Combine these updates onto an adapter and log `Combined` or `CombineFailed`."""

    round: int
    start: str  # sha256 of the manifest of the current adapter
    state: str | None = None  # sha256 of what the strategy keeps with it
    updates: tuple[Update, ...]  # in device order; `Update.staleness` tells who is late


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """Export the adapter, broadcast it unless that was done, and log `Published`."""

    round: int
    manifest: str
    heard: bool = False  # as a candidate it was broadcast already


class EndJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job is over: done, failed or cancelled."""

    phase: JobPhase
    reason: str


Action = (
    Announce | Open | OpenEvaluation | Offer | CancelTask | CloseRound | Combine | Publish | EndJob
)
