"""Whether a combined adapter is released or rolled back, and what follows either.

With ``publish_if`` it is a *candidate* first. All devices that are ready evaluate it, and it is
compared with the best released adapter so far, over the devices that measured both. A round whose
candidate is too much worse is rolled back: the next one begins where this one began, with the
adapter and the strategy's state of the same record. Nothing is ever released unmeasured. ADR 22.
"""

from hub.rounds.comparing import compare, is_measured, trend
from hub.rounds.ending import all_settled, any_delivered, fail, missed
from hub.rounds.events import VALIDATION
from hub.rounds.state import Candidate, Comparison, JobState, RoundRecord

#: Devices that are named when nobody has measured a candidate.
_NAMED = 5


def on_combined(state: JobState, at: float) -> JobState:
    """Return the state of a round whose updates became an adapter: it may be judged first."""
    gate = state.rules.publish_if if state.rules else None
    if gate is None:
        return state
    if gate.metric == VALIDATION:
        return _judge_on_own_text(state, at)
    return state.with_record(_evaluating(state, at, Candidate()))


def step_candidate(state: JobState, at: float, *, due: bool) -> JobState:
    """Return the state after what time and completeness do to a candidate's evaluation.

    Args:
        state: of a job whose round is evaluating its candidate.
        at: Unix time in seconds.
        due: whether the evaluation's deadline has passed.
    """
    candidate = state.current.candidate
    if candidate is None:
        return state
    complete = all_settled(candidate.members) and any_delivered(candidate.members)
    if not due and not complete:
        return state
    comparison = _beside_the_best(state)
    if comparison is not None:
        return _decide(state, at, comparison)
    if not due:
        return state  # others, who measured the reference, may still come
    reason = f"no device measured both its adapter and a released one{_why(candidate)}"
    if candidate.attempt > 1:
        return fail(state, at, f"{reason}; this was the second attempt")
    again = _evaluating(state, at, candidate.change(attempt=candidate.attempt + 1))
    return state.with_record(again.change(waiting=f"first attempt: {reason}"))


def follow(state: JobState, at: float, next_round: RoundRecord) -> JobState:
    """Return the state with the next round's record, or the final evaluation's in its place."""
    rules, last = state.rules, state.current
    if rules is None:
        return state
    why = _stalled(state)
    if why and last.round < rules.rounds:
        state = state.change(stopped_after=last.round, reason=why)
    if last.round >= state.last_round:
        next_round = next_round.change(
            phase="evaluating",
            opened_at=at,
            deadline_s=rules.evaluation_s,
            deadline=at + rules.evaluation_s,
            waiting="",
        )
    return state.change(records=(*state.records, next_round))


def _evaluating(state: JobState, at: float, candidate: Candidate) -> RoundRecord:
    """Return the current record while devices evaluate its candidate, from now on.

    They have as long as for the round, which was reckoned for their links and their speed.
    """
    record = state.current
    least_s = state.rules.evaluation_s if state.rules else 0.0
    deadline = at + max(least_s, record.deadline_s)
    return record.change(phase="evaluating", candidate=candidate, deadline=deadline)


def _beside_the_best(state: JobState) -> Comparison | None:
    """Return the candidate beside the best released adapter, else beside the round's start.

    The cohort measured the start when the round began, so somebody can tell as a rule.
    """
    gate = state.rules.publish_if if state.rules else None
    if gate is None:
        return None
    for reference in (state.best, state.adapter_round):
        found = compare(state, gate.metric, state.current.round, reference)
        if found is not None:
            return found
    return None


def _judge_on_own_text(state: JobState, at: float) -> JobState:
    comparison = _beside_the_best(state)
    if comparison is not None:
        return _decide(state, at, comparison)
    record = state.current
    if is_measured(state, VALIDATION, record.round):
        # The first one: there is nothing to compare it with.
        return state.with_record(record.change(waiting="")).change(best=record.round)
    reason = "its adapter was not measured on the hub's own text"
    if record.candidate is not None:
        return fail(state, at, f"{reason}; this was the second attempt")
    again = record.change(
        candidate=Candidate(attempt=2),
        combined=None,
        combined_state=None,
        record={},
        waiting=f"first attempt: {reason}",
    )
    return state.with_record(again)  # it is combined again, and measured with that


def _decide(state: JobState, at: float, comparison: Comparison) -> JobState:
    gate = state.rules.publish_if if state.rules else None
    if gate is None:
        return state
    record = _without_evaluators(state.current).change(
        comparison=comparison, deadline=None, waiting=""
    )
    if comparison.loss <= comparison.reference * (1.0 + gate.max_regression):
        better = comparison.loss < comparison.reference
        best = record.round if better else comparison.reference_round
        # What is left is to export and to announce it.
        return state.with_record(record.change(phase="aggregating")).change(best=best)
    reason = _rolled_back(comparison, gate.max_regression)
    record = record.change(phase="rolled_back", rolled_back_at=at, reason=reason)
    next_round = RoundRecord(
        round=record.round + 1,
        start=record.start,
        start_state=record.start_state,
        waiting=f"round {record.round} was {reason}",
    )
    return follow(state.with_record(record), at, next_round)


def _without_evaluators(record: RoundRecord) -> RoundRecord:
    candidate = record.candidate
    if candidate is None:
        return record
    return record.change(candidate=candidate.change(members=missed(candidate.members)))


def _rolled_back(found: Comparison, allowed: float) -> str:
    released = f"that of round {found.reference_round}" if found.reference_round else "the start"
    who = f"over {found.devices} devices" if found.devices else "on the hub's own text"
    return (
        f"rolled back: its {found.metric} is {found.loss:.4f}, {released} has "
        f"{found.reference:.4f} {who}; allowed are {allowed:.2%} more, not {found.regression:.2%}"
    )


def _why(candidate: Candidate) -> str:
    """Return what became of the first few evaluators."""
    told = [
        f"{device}: {one.reason or ('disconnected' if one.lost else one.state)}"
        for device, one in sorted(candidate.members.items())
    ]
    if not told:
        return "; none was ready"
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return f"; {'; '.join(told[:_NAMED])}{more}"


def _stalled(state: JobState) -> str:
    """Return why no further round is worth it, or nothing."""
    until = state.rules.until if state.rules else None
    if until is None:
        return ""
    found = trend(state, until.metric, until.min_delta)
    if found.rounds < until.patience:
        return ""
    since = f"round {found.best}" if found.best else "the start"
    return (
        f"stopped early: {until.metric} has not improved by {until.min_delta:g} nats in "
        f"{found.rounds} rounds, since {since}"
    )
