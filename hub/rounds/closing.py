"""What time and completeness alone do to a job: rounds close, retry, fail; jobs end.

`settle` runs before and after each event, so that a deadline counts from its own second and not
from the next message.
"""

from hub.rounds.ending import all_settled, any_delivered, end, fail, may_return, missed
from hub.rounds.releasing import step_candidate
from hub.rounds.state import JobState, RoundRecord, Update, contributions

#: A hub that comes back leaves devices this long to find it again, at most.
RECONNECT_S = 30.0


def settle(state: JobState, at: float) -> JobState:
    """Return the state after all that is due at a time has happened."""
    while True:
        then = _step(state, at)
        if then is state:
            return state
        state = then


def close(state: JobState, at: float, why: str) -> JobState:
    """Return the state of a round that takes no more updates: combined next, or opened again."""
    record = state.current
    if len(contributions(state)) < record.min_updates:
        return reopen(state, at, f"it closed ({why})")
    fresh = list(record.accepted.values())
    kept, dropped = newest([*fresh, *record.stale.values(), *state.late.values()])
    stale = {device: one for device, one in kept.items() if device not in record.accepted}
    closed = _without_open_tasks(record).change(
        phase="aggregating",
        deadline=None,
        stale=stale,
        superseded=record.superseded + dropped,
        waiting="",
        closed_at=at,
        close_reason=why,
    )
    return state.with_record(closed).change(late={})


def reopen(state: JobState, at: float, why: str) -> JobState:
    """Return the state of a round that closed with too few updates: once more, or failed.

    What was accepted stays and counts. Whoever is merely disconnected may be asked again; whoever
    failed, declined or was silent may not, though its update is still welcome. The round waits as
    long as an attempt lasts for devices that could fill it.
    """
    record = state.current
    have = len(contributions(state))
    reason = f"{have} of the {record.min_updates} updates needed; {why}"
    if record.attempt > 1:
        return fail(state, at, f"{reason}; this was the second attempt")
    exclude = tuple(
        sorted(
            device
            for device, one in record.members.items()
            if not (one.lost and one.state in ("offered", "taken", "missed"))
        )
    )
    again = _without_open_tasks(record).change(
        phase="open",
        attempt=record.attempt + 1,
        exclude=exclude,
        opened_at=None,
        deadline=at + record.deadline_s,
        waiting=f"first attempt: {reason}",
        candidate=None,
        closed_at=None,
        close_reason="",
    )
    return state.with_record(again)


def newest(updates: list[Update]) -> tuple[dict[str, Update], tuple[Update, ...]]:
    """Return each device's newest update, and the ones that these supersede."""
    kept: dict[str, Update] = {}
    dropped = []
    for update in updates:
        rival = kept.get(update.device)
        if rival is None:
            kept[update.device] = update
        elif update.round > rival.round:
            kept[update.device] = update
            dropped.append(rival)
        else:
            dropped.append(update)
    return kept, tuple(dropped)


def _step(state: JobState, at: float) -> JobState:
    if state.ended is not None or not state.records:
        return state
    record = state.current
    due = record.deadline is not None and at >= record.deadline
    if record.phase in ("offering", "training", "collecting"):
        why = _why_close(state, due)
        return close(state, at, why) if why else state
    if record.phase == "open" and record.attempt > 1:
        return _step_retry(state, at, due)
    if record.phase == "evaluating" and record.candidate is not None:
        return step_candidate(state, at, due=due)
    if record.phase == "evaluating":
        return _step_evaluating(state, at, due)
    return state


def _step_retry(state: JobState, at: float, due: bool) -> JobState:
    record = state.current
    if len(contributions(state)) >= record.min_updates:
        return close(state, at, "the updates still missing came late")
    if due:
        return reopen(state, at, f"no other devices came within {record.deadline_s:.0f} s")
    return state


def _step_evaluating(state: JobState, at: float, due: bool) -> JobState:
    record = state.current
    someone = any_delivered(record.members)
    complete = all_settled(record.members) and (someone or not may_return(record.members))
    if not due and not (record.members and complete):
        return state
    final = _without_open_tasks(record).change(
        phase="done",
        deadline=None,
        closed_at=at,
        close_reason="the deadline" if due else "everyone who could evaluate has",
    )
    return end(state.with_record(final), at, "done", state.reason)


def _why_close(state: JobState, due: bool) -> str:
    record = state.current
    if record.target is not None and len(record.accepted) >= record.target:
        return f"the target of {record.target} updates is reached"
    if due:
        return "the deadline"
    enough = len(contributions(state)) >= record.min_updates
    if all_settled(record.members) and (enough or not may_return(record.members)):
        return "everyone who could deliver has"
    return ""


def _without_open_tasks(record: RoundRecord) -> RoundRecord:
    return record.change(members=missed(record.members))
