"""A job in one document, for the API, the dashboard and the demo's ``summary.json``."""

import msgspec

from hub.rounds.losses import (
    adapter_losses,
    base_loss,
    base_losses,
    heldout_losses,
    weighted_mean,
    without_prompt_losses,
)
from hub.rounds.state import JobState, MemberState, RoundRecord
from hub.scheduling.contract import Kind
from wire.messages.hub import JobPhase
from wire.messages.plan import Role


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
    phase: JobPhase
    attempt: int
    opened_ts: float | None
    closed_ts: float | None
    deadline_s: float
    deadline_ts: float | None
    close_reason: str
    reason: str  # why it failed, or for what it waits
    members: list[MemberSummary]
    left_out: dict[str, str]
    accepted: list[str]  # devices, in order of their ids
    stale: list[str]  # devices whose late update of an earlier round was combined here
    update_bytes: int
    heldout_loss: float | None  # of the adapter that the round published
    record: dict[str, float]
    problem: str = ""  # with the hub's own text


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A job. ``heldout_loss`` begins with the start's, so that round t's stands at index t."""

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
    rounds = [_round(state, record) for record in state.records]
    final = rounds.pop() if len(rounds) > state.rules.rounds else None
    published = sum(record.published_at is not None for record in state.records)
    before = {device: one.loss for device, one in base_losses(state).items()}
    after: dict[str, float] = {}
    for index in range(1, published + 1):
        after |= {device: one.loss for device, one in adapter_losses(state, index).items()}
    return Summary(
        job=state.rules.job,
        phase=state.phase,
        reason=state.reason,
        rounds=rounds,
        evaluation=final,
        adapter=state.adapter,
        adapter_round=published,
        base_loss=base_loss(state),
        heldout_loss=heldout_losses(state),
        without_prompt_loss=weighted_mean(without_prompt_losses(state).values()),
        loss_before=before,
        loss_after=after,
    )


def _round(state: JobState, record: RoundRecord) -> RoundSummary:
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
        members=[_member(record, one) for _, one in sorted(record.members.items())],
        left_out=dict(sorted(record.left_out.items())),
        accepted=sorted(record.accepted),
        stale=sorted(record.stale),
        update_bytes=sum(
            one.size_bytes for group in (record.accepted, record.stale) for one in group.values()
        ),
        heldout_loss=weighted_mean(adapter_losses(state, record.round).values()),
        record=dict(record.record),
        problem=record.problem,
    )


def _member(record: RoundRecord, one: MemberState) -> MemberSummary:
    plan = one.member
    update = record.accepted.get(plan.device)
    adapter = record.losses.get(plan.device, {}).get("adapter")
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
        heldout_loss=adapter.loss if adapter else None,
    )
