"""A job in one document, for the API, the dashboard and the demo's ``summary.json``."""

import msgspec

from hub.rounds.losses import (
    adapter_losses,
    base_loss,
    base_losses,
    heldout_losses,
    spread,
    starts,
    weighted_mean,
    without_prompt_losses,
    worst_tenth,
)
from hub.rounds.state import Comparison, JobState, MemberState, RecordPhase, RoundRecord
from hub.scheduling.contract import Kind
from wire.messages.hub import JobPhase
from wire.messages.plan import Role
from wire.messages.requests import Evaluation


class MemberSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A device's part in a round and what came of it."""

    device: str
    kind: Kind
    role: Role
    rung: str
    rank: int
    steps: int
    codec: str
    state: str  # offered, taken, delivered, failed, declined, missed, late; or lost
    reason: str  # why it got this work
    problem: str = ""  # why it failed or declined
    update_bytes: int | None = None
    tokens: int | None = None
    loss_first: float | None = None  # while training
    loss_last: float | None = None
    heldout_loss: float | None = None  # of the adapter with which the round began


class RoundSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One round."""

    round: int
    phase: RecordPhase
    attempt: int
    opened_ts: float | None
    closed_ts: float | None
    deadline_s: float
    deadline_ts: float | None
    close_reason: str
    reason: str  # why it failed or was rolled back, or for what it waits
    members: list[MemberSummary]
    left_out: dict[str, str]
    accepted: list[str]  # devices, in order of their ids
    stale: list[str]  # devices whose late update of an earlier round was combined here
    update_bytes: int
    heldout_loss: float | None  # of the adapter that the round made
    worst_tenth: float | None  # the same over the tenth of devices with the highest loss
    spread: float | None  # standard deviation over devices
    measured_by: int  # devices, with all components of that adapter
    comparison: Comparison | None  # by which it was released or rolled back
    record: dict[str, float]
    problem: str = ""  # with the hub's own text


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A job. ``heldout_loss`` begins with the start's, so that round t's stands at index t.

    After a round that was rolled back it is that of the adapter before.
    """

    job: str
    phase: JobPhase
    reason: str
    rounds: list[RoundSummary]
    evaluation: RoundSummary | None  # the final one
    adapter: str  # sha256 of the published adapter's manifest
    adapter_round: int  # after which it was published; 0: the start
    base_loss: float | None
    heldout_loss: list[float | None]
    without_prompt_loss: float | None
    loss_before: dict[str, float]  # per device, of the bare base
    loss_after: dict[str, float]  # per device, of the newest adapter that it measured


def summary(state: JobState) -> Summary:
    """Return a job's summary.

    Raises:
        ValueError: the job was never submitted.
    """
    if state.rules is None:
        raise ValueError("the job's log is empty; its first event is Submitted.")
    rounds = [
        _round(state, record, start)
        for record, start in zip(state.records, starts(state), strict=True)
    ]
    final = rounds.pop() if len(rounds) > state.last_round else None
    before = {device: one.loss for device, one in base_losses(state).items()}
    after: dict[str, float] = {}
    for record in state.records:
        if record.published_at is not None:
            measured = adapter_losses(state, record.round)
            after |= {device: one.loss for device, one in measured.items()}
    return Summary(
        job=state.rules.job,
        phase=state.phase,
        reason=state.reason,
        rounds=rounds,
        evaluation=final,
        adapter=state.adapter,
        adapter_round=state.adapter_round,
        base_loss=base_loss(state),
        heldout_loss=heldout_losses(state),
        without_prompt_loss=weighted_mean(without_prompt_losses(state).values()),
        loss_before=before,
        loss_after=after,
    )


def _round(state: JobState, record: RoundRecord, start: int) -> RoundSummary:
    before = adapter_losses(state, start)
    losses = [one for one in adapter_losses(state, record.round).values() if not one.rank]
    return RoundSummary(
        round=record.round,
        phase=record.phase,
        attempt=record.attempt,
        opened_ts=record.opened_at,
        closed_ts=record.closed_at,
        deadline_s=record.deadline_s,
        deadline_ts=record.deadline,
        close_reason=record.close_reason,
        reason=record.reason or record.waiting,
        members=[
            _member(record, one, before.get(device))
            for device, one in sorted(record.members.items())
        ],
        left_out=dict(sorted(record.left_out.items())),
        accepted=sorted(record.accepted),
        stale=sorted(record.stale),
        update_bytes=sum(
            one.size_bytes for group in (record.accepted, record.stale) for one in group.values()
        ),
        heldout_loss=weighted_mean(losses),
        worst_tenth=worst_tenth(losses),
        spread=spread(losses),
        measured_by=len(losses),
        comparison=record.comparison,
        record=dict(record.record),
        problem=record.problem,
    )


def _member(record: RoundRecord, one: MemberState, before: Evaluation | None) -> MemberSummary:
    plan = one.member
    update = record.accepted.get(plan.device)
    return MemberSummary(
        device=plan.device,
        kind=plan.kind,
        role=plan.role,
        rung=plan.rung,
        rank=plan.rank,
        steps=plan.steps,
        codec=plan.codec,
        state="lost" if one.lost and one.owes else one.state,
        reason=plan.reason,
        problem=one.reason,
        update_bytes=update.size_bytes if update else None,
        tokens=update.tokens if update else None,
        loss_first=update.train.loss_first if update else None,
        loss_last=update.train.loss_last if update else None,
        heldout_loss=before.loss if before else None,
    )
