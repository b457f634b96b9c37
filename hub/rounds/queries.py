"""What the coordinator must know before it answers a device, and before it deletes a blob."""

from typing import Literal

import msgspec

from hub.rounds.closing import settle
from hub.rounds.events import RoundRules
from hub.rounds.state import JobState, MemberState, RoundRecord, contributions


class Verdict(msgspec.Struct, frozen=True):
    """How an update would count.

    ``fresh``: in its own round. ``stale``: in a later one. ``repeat``: it was accepted before, so
    say so again and forget the bytes. ``refused``: never, for the reason.
    """

    counts: Literal["fresh", "stale", "repeat", "refused"]
    reason: str = ""


def verdict(state: JobState, device: str, round_: int, at: float) -> Verdict:
    """Return how an update of a device for a round's task would count if it came now.

    `hub.rounds.round.apply` decides by this, too: an event that is refused here is a no-op there.
    """
    return verdict_now(settle(state, at), device, round_)


def verdict_now(state: JobState, device: str, round_: int) -> Verdict:
    """Return the verdict on a state in which all that is due has happened."""
    record = state.record(round_)
    one = record.members.get(device) if record else None
    if state.rules is None or record is None:
        return Verdict("refused", f"there is no round {round_} (yet).")
    if one is None or one.member.kind != "train":
        return Verdict("refused", f"{device} has no training task in round {round_}.")
    if one.state in ("delivered", "late"):
        return Verdict("repeat")
    if state.ended is not None:
        return Verdict("refused", f"the job is {state.ended}.")
    if record is state.current and record.collects:
        return Verdict("fresh")
    return _late_verdict(state, round_, state.rules)


def last_accepted(state: JobState, device: str) -> int | None:
    """Return the round of a device's last task whose update was accepted; None: there is none."""
    undone = _rolled_back_with(state, device)
    for record in reversed(state.records):
        one = record.members.get(device)
        if one is None or one.member.kind != "train" or record.round in undone:
            continue
        if one.state in ("delivered", "late"):
            return record.round
    return None


def may_take(
    state: JobState, device: str, round_: int, at: float, *, candidate: bool = False
) -> str | None:
    """Return None if a device's task is still wanted, else why not.

    Args:
        state: of the job.
        device: whose task it is.
        round_: of the task.
        at: Unix time in seconds.
        candidate: whether the task is to evaluate the round's candidate.
    """
    state = settle(state, at)
    record = state.record(round_)
    one = member_of(record, device, candidate=candidate)
    if record is None or one is None:
        return f"{device} has no task in round {round_}."
    if state.ended is not None:
        return f"the job is {state.ended}."
    if record is not state.current or not one.owes or not _offers(record):
        return f"the task in round {round_} is not open any more ({one.state})."
    return None


def member_of(record: RoundRecord | None, device: str, *, candidate: bool) -> MemberState | None:
    """Return a device's part in a round, or in the evaluation of its candidate."""
    if record is None or not candidate:
        return record.members.get(device) if record else None
    return record.candidate.members.get(device) if record.candidate else None


def workers(state: JobState) -> set[str]:
    """Return the devices of which an update was accepted, and the present round's members."""
    found = {device for record in state.records for device in (*record.accepted, *record.stale)}
    if state.records:
        found |= set(state.current.members)
        found |= set(state.current.candidate.members if state.current.candidate else ())
    return found | set(state.late)


def needed_updates(state: JobState) -> set[str]:
    """Return the sha256 of the update blobs that a coming combination may read."""
    if state.ended is not None or not state.records:
        return set()
    record = state.current
    groups = (record.accepted, record.stale, state.late)
    return {update.sha256 for group in groups for update in group.values()}


def needed_adapters(state: JobState) -> set[str]:
    """Return the sha256 of the manifests of adapters that somebody may still refer to.

    That is the published one, one that waits to be published or is evaluated, and those from which
    a late update may have started.
    """
    if state.rules is None:
        return set()
    current = state.current
    needed = {state.adapter}
    if current.combined is not None:
        needed.add(current.combined)
    if state.ended is None:
        oldest = current.round - state.rules.max_staleness
        needed |= {record.start for record in state.records if record.round >= oldest}
        needed |= {update.start for update in contributions(state).values()}
    return needed


def needed_states(state: JobState) -> set[str]:
    """Return the sha256 of what the strategy keeps with the adapters that are needed still."""
    if state.rules is None or state.ended is not None:
        return set()
    needed = needed_adapters(state)
    found = {record.start_state for record in state.records if record.start in needed}
    return {one for one in (*found, state.current.combined_state) if one is not None}


def _rolled_back_with(state: JobState, device: str) -> set[int]:
    """Return the rounds of a device's updates that were combined in vain.

    To the device it is as if they had never been sent: what its codec left out of them is dropped.
    """
    found = set()
    for record in state.records:
        if record.rolled_back_at is not None:
            groups = (record.accepted, record.stale)
            found |= {group[device].round for group in groups if device in group}
    return found


def _late_verdict(state: JobState, round_: int, rules: RoundRules) -> Verdict:
    current = state.current
    open_now = current.phase == "open" or current.collects
    enters = current.round if current.round > round_ and open_now else current.round + 1
    if enters > state.last_round:
        return Verdict("refused", f"round {round_} is closed, and no round follows.")
    if enters - round_ > rules.max_staleness:
        reason = f"round {round_} is {enters - round_} rounds old"
        return Verdict("refused", f"{reason}; at most {rules.max_staleness} count.")
    return Verdict("stale")


def _offers(record: RoundRecord) -> bool:
    return record.phase in ("offering", "training", "collecting", "evaluating")
