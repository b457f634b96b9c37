"""What devices do to the evaluation of a candidate: a combined adapter that isn't released yet.

A round's cohort is over by then. The candidate has members of its own: all devices that are ready,
whatever they did in the round.
"""

from hub.rounds import events as ev
from hub.rounds.members import plausible
from hub.rounds.state import Candidate, JobState, MemberState, RoundRecord


def open_candidate(record: RoundRecord, event: ev.Opened) -> RoundRecord:
    """Return the record with further evaluators; who failed in an earlier attempt is one again."""
    candidate = record.candidate
    if candidate is None or candidate.attempt != event.attempt:
        return record
    members = dict(candidate.members)
    for one in event.members:
        if one.kind == "evaluate" and not _settled_or_busy(candidate, one.device):
            members[one.device] = MemberState(member=one, attempt=event.attempt)
    return record.change(candidate=candidate.change(members=members))


def known(candidate: Candidate) -> tuple[str, ...]:
    """Return the devices that need not be asked (again) in this attempt, in order."""
    return tuple(one for one in sorted(candidate.members) if _settled_or_busy(candidate, one))


def on_candidate_event(state: JobState, event: ev.Event) -> JobState:
    """Return the state after something that an evaluator did; any other event changes nothing."""
    match event:
        case ev.Taken() | ev.Declined() | ev.TaskFailed() | ev.Evaluated():
            record = state.record(event.round)
        case ev.DeviceLost() | ev.DeviceBack():
            record = state.current
        case _:
            return state
    candidate = record.candidate if record else None
    one = candidate.members.get(event.device) if candidate else None
    if record is None or candidate is None or one is None:
        return state
    is_open = record is state.current and record.phase == "evaluating"
    changed = _changed(candidate, one, event, is_open=is_open)
    if changed == candidate:
        return state
    return state.with_record(record.change(candidate=changed))


def _changed(
    candidate: Candidate, one: MemberState, event: ev.Event, *, is_open: bool
) -> Candidate:
    device = one.member.device
    match event:
        case ev.Taken() if is_open and one.state == "offered":
            candidate = candidate.with_member(device, state="taken", lost=False)
        case ev.Declined(reason=reason) if is_open and one.owes:
            candidate = candidate.with_member(device, state="declined", lost=False, reason=reason)
        case ev.TaskFailed(reason=reason) if one.owes or one.state == "missed":
            candidate = candidate.with_member(device, state="failed", lost=False, reason=reason)
        case ev.Evaluated():
            candidate = _with_loss(candidate, device, event)
        case ev.DeviceLost():
            candidate = candidate.with_member(device, lost=True)
        case ev.DeviceBack():
            again = "offered" if one.state == "taken" else one.state
            candidate = candidate.with_member(device, lost=False, state=again)
        case _:
            pass
    return candidate


def _with_loss(candidate: Candidate, device: str, event: ev.Evaluated) -> Candidate:
    """Return the candidate with a device's loss; its first report counts."""
    candidate = candidate.with_member(device, state="delivered", lost=False)
    for one in event.evaluations:
        if one.variant == "adapter" and plausible(one) and device not in candidate.losses:
            return candidate.change(losses={**candidate.losses, device: one})
    return candidate


def _settled_or_busy(candidate: Candidate, device: str) -> bool:
    one = candidate.members.get(device)
    if one is None:
        return False
    return one.attempt == candidate.attempt or one.owes or one.state == "delivered"
