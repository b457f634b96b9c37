"""The round as a pure state machine: events and times in, a job's state out.

    open -> offering -> training -> collecting -> aggregating -> published   (or failed)
                                                      evaluating -> rolled_back

*open* waits for a cohort; *offering* until the first device takes its task; *training* until the
first update is accepted; *collecting* until the round closes: at its deadline with whoever came,
or earlier, when everyone who could deliver has or the target is reached. With fewer than
``min_updates`` it goes back to *open* once, for other devices, then fails. Under a gate, the
combined adapter is a candidate, and *evaluating* decides whether it is published or rolled back
(`hub.rounds.releasing`). After the last round the final *evaluating* step ends the job.

An update counts once per job, round and device. One that comes after its round closed enters the
next one; a fresh update of the same device takes its place. Events that are repeated, late, of
strangers or of unknown tasks change nothing. `wanted` says what to do next.
"""

from collections.abc import Iterable

import msgspec

from hub.rounds import events as ev
from hub.rounds.candidates import on_candidate_event, open_candidate
from hub.rounds.closing import RECONNECT_S, close, newest, settle
from hub.rounds.ending import end, fail
from hub.rounds.members import on_device_event
from hub.rounds.queries import verdict_now
from hub.rounds.releasing import follow, on_combined
from hub.rounds.state import JobState, MemberState, RoundRecord, Update, combined_updates
from hub.rounds.wanted import wanted

__all__ = ["apply", "replay", "wanted"]


def apply(state: JobState, event: ev.Event, at: float) -> JobState:
    """Return the state after an event; the given one is not changed.

    Args:
        event: any event, in any order; one that makes no sense now changes nothing.
        at: when it happened, Unix time in seconds.
    """
    if isinstance(event, ev.Submitted):
        return _on_submitted(state, event)
    if state.rules is None:
        return state
    if isinstance(event, ev.HubBack):
        # First of all: else the deadline that passed while nobody listened would count.
        state = _on_hub_back(state, event, at)
    state = settle(state, at)
    if state.ended is not None:
        return state
    return settle(_on_event(state, event, at), at)


def replay(events: Iterable[tuple[float, ev.Event]]) -> JobState:
    """Return the state that a log of (time, event) leads to."""
    state = JobState()
    for at, event in events:
        state = apply(state, event, at)
    return state


def _on_event(state: JobState, event: ev.Event, at: float) -> JobState:
    match event:
        case ev.Waiting():
            state = _on_waiting(state, event)
        case ev.Opened():
            state = _on_opened(state, event, at)
        case ev.Combined():
            state = _on_combined(state, event, at)
        case ev.CombineFailed():
            state = _on_combine_failed(state, event, at)
        case ev.Published():
            state = _on_published(state, event, at)
        case ev.Cancelled():
            record = state.current.change(deadline=None)
            state = end(state.with_record(record), at, "cancelled", event.reason)
        case ev.UpdateAccepted():
            state = _on_update(state, event)
        case ev.DeviceLost() | ev.DeviceBack():
            state = on_candidate_event(on_device_event(state, event), event)
        case ev.Taken() | ev.Declined() | ev.TaskFailed() | ev.Evaluated() if event.candidate:
            state = on_candidate_event(state, event)
        case _:
            state = on_device_event(state, event)
    return state


def _on_submitted(state: JobState, event: ev.Submitted) -> JobState:
    if state.rules is not None:
        return state
    first = RoundRecord(round=1, start=event.start)
    return JobState(rules=event.rules, adapter=event.start, records=(first,))


def _on_hub_back(state: JobState, event: ev.HubBack, at: float) -> JobState:
    if state.ended is not None or state.current.deadline is None or event.away_s <= 0:
        return state
    record = state.current
    least = at + min(RECONNECT_S, record.deadline_s)
    deadline = max((record.deadline or at) + event.away_s, least)
    return state.with_record(record.change(deadline=deadline))


def _on_waiting(state: JobState, event: ev.Waiting) -> JobState:
    record = state.current
    if record.round != event.round or record.phase != "open":
        return state
    return state.with_record(record.change(waiting=event.reason))


def _on_opened(state: JobState, event: ev.Opened, at: float) -> JobState:
    record = state.current
    if record.round != event.round:
        return state
    if record.phase == "evaluating" and record.candidate is not None:
        return state.with_record(open_candidate(record, event))
    if record.phase == "evaluating":
        members = dict(record.members)
        for one in event.members:
            if one.kind == "evaluate" and one.device not in members:
                members[one.device] = MemberState(member=one, attempt=1)
        return state.with_record(record.change(members=members))
    if record.phase != "open" or record.attempt != event.attempt:
        return state
    if not any(one.kind == "train" for one in event.members):
        reason = "no device of the cohort can train; the round waits for one that can"
        return state.with_record(record.change(waiting=reason))
    again = record.attempt > 1
    members = dict(record.members)
    for one in event.members:
        known = members.get(one.device)
        if known is None:
            members[one.device] = MemberState(member=one, attempt=event.attempt)
        elif known.attempt < event.attempt and known.state == "missed":
            # The task's name is the same, so its content must be: it keeps its first plan.
            members[one.device] = msgspec.structs.replace(
                known, state="offered", attempt=event.attempt, lost=False, reason=""
            )
    return state.with_record(
        record.change(
            phase="offering",
            members=members,
            left_out={**record.left_out, **event.left_out},
            opened_at=at,
            deadline_s=event.deadline_s,
            deadline=at + event.deadline_s,
            min_updates=record.min_updates if again else max(1, event.min_updates),
            target=record.target if again else event.target,
            waiting="",
        )
    )


def _on_update(state: JobState, event: ev.UpdateAccepted) -> JobState:
    counts = verdict_now(state, event.device, event.round).counts
    record = state.record(event.round)
    if record is None or counts not in ("fresh", "stale"):
        return state
    update = _update(record, event)
    if counts == "fresh":
        old = [group[event.device] for group in (record.stale, state.late) if event.device in group]
        record = record.with_member(event.device, state="delivered", lost=False).change(
            accepted={**record.accepted, event.device: update},
            stale=_without(record.stale, event.device),
            superseded=record.superseded + tuple(old),
            phase=record.phase if record.phase == "open" else "collecting",
        )
        return state.with_record(record).change(late=_without(state.late, event.device))
    state = state.with_record(record.with_member(event.device, state="late"))
    current = state.current
    if current.collects and event.device in current.accepted:
        return state.with_record(current.change(superseded=(*current.superseded, update)))
    kept, dropped = newest([*state.late.values(), update])
    current = current.change(superseded=current.superseded + dropped)
    return state.with_record(current).change(late=kept)


def _update(record: RoundRecord, event: ev.UpdateAccepted) -> Update:
    member = record.members[event.device].member
    # A device that lies about its tokens weighs at most what its task was worth.
    most = max(1, member.steps * member.batch * member.seq_len)
    return Update(
        device=event.device,
        round=event.round,
        start=record.start,
        sha256=event.sha256,
        size_bytes=event.size_bytes,
        role=member.role,
        rank=member.rank,
        rung=member.rung,
        tokens=min(max(1, event.train.tokens), most),
        # Never the device's own figure: who says one step would weigh most where steps divide.
        steps=max(1, member.steps),
        train=event.train,
        download_s=event.download_s,
        upload_s=event.upload_s,
        peak_bytes=event.peak_bytes,
    )


def _on_combined(state: JobState, event: ev.Combined, at: float) -> JobState:
    record = state.current
    if record.round != event.round or record.phase != "aggregating" or record.combined:
        return state
    record = record.change(
        combined=event.manifest,
        record=event.record,
        combined_state=event.state,
        problem=event.problem,
    )
    return on_combined(state.with_record(record), at)


def _on_combine_failed(state: JobState, event: ev.CombineFailed, at: float) -> JobState:
    record = state.current
    if record.round != event.round or record.phase != "aggregating" or record.combined:
        return state
    device = event.device
    if device is None:
        return fail(state, at, event.reason)
    if device in record.spoiled:
        return state
    if device not in record.accepted and device not in record.stale:
        return fail(state, at, f"{event.reason} (blamed on {device}, which has no update in it)")
    if device in record.accepted:
        record = record.with_member(device, state="failed", reason=event.reason)
    state = state.with_record(
        record.change(
            accepted=_without(record.accepted, device),
            stale=_without(record.stale, device),
            spoiled={**record.spoiled, device: event.reason},
        )
    )
    if len(combined_updates(state.current)) >= record.min_updates:
        return state
    # Updates that came late meanwhile may fill the gap.
    return close(state, at, f"the update of {device} can't be combined: {event.reason}")


def _on_published(state: JobState, event: ev.Published, at: float) -> JobState:
    record = state.current
    if record.round != event.round or record.combined is None:
        return state
    if record.phase != "aggregating":
        return state
    published = record.change(phase="published", published_at=at)
    state = state.with_record(published).change(adapter=record.combined)
    next_round = RoundRecord(
        round=record.round + 1, start=record.combined, start_state=record.combined_state
    )
    return follow(state, at, next_round)


def _without(group: dict[str, Update], device: str) -> dict[str, Update]:
    return {name: update for name, update in group.items() if name != device}
