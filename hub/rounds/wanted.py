"""What should be going on now, from a job's state and the time alone.

A hub that starts replays the log and asks; it needs no memory of what it had begun.
"""

from collections.abc import Iterator, Mapping

from hub.rounds.actions import (
    Action,
    Announce,
    CancelTask,
    CloseRound,
    Combine,
    EndJob,
    Offer,
    Open,
    OpenEvaluation,
    Publish,
)
from hub.rounds.candidates import known
from hub.rounds.closing import settle
from hub.rounds.state import (
    JobState,
    MemberState,
    RoundRecord,
    combined_updates,
    contributions,
)

#: How long after a job's end its devices are told to stop.
CANCEL_FOR_S = 60.0


def wanted(state: JobState, now: float) -> list[Action]:
    """Return what should be going on, the announcement first.

    Args:
        now: Unix time in seconds.
    """
    if state.rules is None:
        return []
    actions: list[Action] = [_announce(state)]
    if state.ended is not None:
        actions += _cancel_all(state, now)
        actions.append(EndJob(phase=state.ended, reason=state.reason))
        return actions
    record = state.current
    if settle(state, now) is not state:
        return [*actions, CloseRound(round=record.round)]
    actions += _cancel_superseded(state)
    if record.phase == "open":
        actions.append(_open(state))
    elif record.phase == "aggregating":
        actions.append(_aggregate(state))
    else:
        if record.phase == "evaluating":
            actions.append(_open_evaluation(record, now))
        actions += _offers(record)
    return actions


def _announce(state: JobState) -> Announce:
    record = state.current
    return Announce(
        round=min(record.round, state.last_round),
        phase=state.phase,
        adapter=state.adapter,
        deadline_ts=record.deadline,
        reason=state.reason or record.waiting,
    )


def _open(state: JobState) -> Open:
    record = state.current
    need = None
    if record.attempt > 1:
        need = max(1, record.min_updates - len(contributions(state)))
    return Open(round=record.round, attempt=record.attempt, exclude=record.exclude, need=need)


def _aggregate(state: JobState) -> Combine | Publish:
    record = state.current
    if record.combined is not None:
        heard = record.candidate is not None and bool(record.candidate.members)
        return Publish(round=record.round, manifest=record.combined, heard=heard)
    return Combine(
        round=record.round,
        start=state.adapter,
        state=record.start_state,
        updates=combined_updates(record),
    )


def _open_evaluation(record: RoundRecord, now: float) -> OpenEvaluation:
    candidate, remaining_s = record.candidate, (record.deadline or now) - now
    if candidate is None:
        everyone = tuple(sorted(record.members))
        return OpenEvaluation(round=record.round, known=everyone, remaining_s=remaining_s)
    return OpenEvaluation(
        round=record.round,
        attempt=candidate.attempt,
        known=known(candidate),
        remaining_s=remaining_s,
        candidate=record.combined,
    )


def _offers(record: RoundRecord) -> Iterator[Offer]:
    evaluates = record.candidate is not None
    members = record.candidate.members if record.candidate else record.members
    start = record.combined if evaluates else record.start
    for _, one in sorted(members.items()):
        if one.state == "offered" and not one.lost:
            yield Offer(
                round=record.round,
                member=one.member,
                candidate=evaluates,
                start=start or record.start,
                state=None if evaluates else record.start_state,
                deadline_ts=record.deadline or 0.0,
            )


def _tasks(record: RoundRecord) -> Iterator[tuple[Mapping[str, MemberState], bool]]:
    """Yield the members of a round, and those who evaluate its candidate."""
    yield record.members, False
    if record.candidate is not None:
        yield record.candidate.members, True


def _cancel_superseded(state: JobState) -> Iterator[CancelTask]:
    """Free a device for its new task while it still sits on one of an earlier round."""
    record = state.current
    for device, one in sorted(record.members.items()):
        if one.state != "offered" or one.lost:
            continue
        for older in state.records[:-1]:
            for members, candidate in _tasks(older):
                was = members.get(device)
                if was is not None and was.state == "missed":
                    yield CancelTask(
                        round=older.round,
                        device=device,
                        reason=f"round {older.round} is closed; round {record.round} begins",
                        candidate=candidate,
                    )


def _cancel_all(state: JobState, now: float) -> Iterator[CancelTask]:
    if state.ended_at is None or now > state.ended_at + CANCEL_FOR_S:
        return
    reason = f"the job is {state.ended}"
    for record in state.records:
        for members, candidate in _tasks(record):
            for device, one in sorted(members.items()):
                if one.owes or one.state == "missed":
                    yield CancelTask(
                        round=record.round, device=device, reason=reason, candidate=candidate
                    )
