"""What devices do to their tasks: take, decline, fail, evaluate, vanish and return."""

import math

from hub.rounds import events as ev
from hub.rounds.state import JobState, MemberState, RoundRecord
from wire.messages.requests import Evaluation

_VARIANTS = ("base", "adapter", "without_prompt")
#: No device holds more tokens of held-out text than this; one that says so would outweigh all.
MAX_HELD_OUT_TOKENS = 10_000_000


def on_device_event(state: JobState, event: ev.Event) -> JobState:
    """Return the state after something that a device did; any other event changes nothing."""
    match event:
        case ev.Taken():
            state = _on_taken(state, event)
        case ev.Declined():
            state = _on_declined(state, event)
        case ev.TaskFailed():
            state = _on_task_failed(state, event)
        case ev.Evaluated():
            state = _on_evaluated(state, event)
        case ev.DeviceLost():
            state = _on_device_lost(state, event)
        case ev.DeviceBack():
            state = _on_device_back(state, event)
        case _:
            pass
    return state


def _on_taken(state: JobState, event: ev.Taken) -> JobState:
    """The device works on its task."""
    record, one = _open_task(state, event.round, event.device)
    if record is None or one is None or one.state != "offered":
        return state
    record = record.with_member(event.device, state="taken", lost=False)
    if record.phase == "offering":
        record = record.change(phase="training")
    return state.with_record(record)


def _on_declined(state: JobState, event: ev.Declined) -> JobState:
    """The device won't deliver."""
    record, one = _open_task(state, event.round, event.device)
    if record is None or one is None:
        return state
    return state.with_record(
        record.with_member(event.device, state="declined", lost=False, reason=event.reason)
    )


def _on_task_failed(state: JobState, event: ev.TaskFailed) -> JobState:
    """The device tried. Of a task whose round has closed, only the reason is kept."""
    record = state.record(event.round)
    one = record.members.get(event.device) if record else None
    if record is None or one is None or not (one.owes or one.state == "missed"):
        return state
    return state.with_record(
        record.with_member(event.device, state="failed", lost=False, reason=event.reason)
    )


def _on_evaluated(state: JobState, event: ev.Evaluated) -> JobState:
    """A member's losses; the first report of each variant counts, even after the round closed."""
    record = state.record(event.round)
    one = record.members.get(event.device) if record else None
    if record is None or one is None:
        return state
    known = record.losses.get(event.device, {})
    losses = dict(known)
    for evaluation in event.evaluations:
        if plausible(evaluation) and evaluation.variant not in losses:
            losses[evaluation.variant] = evaluation
    if losses != known:
        record = record.change(losses={**record.losses, event.device: losses})
    if one.member.kind == "evaluate" and one.state != "delivered":
        record = record.with_member(event.device, state="delivered", lost=False)
        if record.phase == "offering":
            record = record.change(phase="training")
    return state.with_record(record)


def _on_device_lost(state: JobState, event: ev.DeviceLost) -> JobState:
    """Nobody waits for the device alone any more; until the deadline it may come back."""
    record = state.current
    one = record.members.get(event.device)
    if one is None or one.lost:
        return state
    return state.with_record(record.with_member(event.device, lost=True))


def _on_device_back(state: JobState, event: ev.DeviceBack) -> JobState:
    """Offer the task again: an agent that restarted has forgotten it, another takes it again."""
    record = state.current
    one = record.members.get(event.device)
    if one is None:
        return state
    again = "offered" if one.state == "taken" else one.state
    return state.with_record(record.with_member(event.device, lost=False, state=again))


def _open_task(
    state: JobState, round_: int, device: str
) -> tuple[RoundRecord | None, MemberState | None]:
    record = state.current
    one = record.members.get(device)
    if record.round != round_ or one is None or not one.owes:
        return None, None
    return record, one


def plausible(evaluation: Evaluation) -> bool:
    """Return whether a device's loss can be one."""
    return (
        evaluation.variant in _VARIANTS
        and math.isfinite(evaluation.loss)
        and evaluation.loss >= 0
        and 0 < evaluation.tokens <= MAX_HELD_OUT_TOKENS
    )
