"""How a job ends, and who of a round is still waited for."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from hub.rounds.state import JobState, MemberState


def fail(state: JobState, at: float, reason: str) -> JobState:
    """Return the state of a job whose current round has failed, and why."""
    record = state.current.change(phase="failed", reason=reason, deadline=None)
    return end(state.with_record(record), at, "failed", f"round {record.round} failed: {reason}")


def end(
    state: JobState, at: float, how: Literal["done", "failed", "cancelled"], reason: str
) -> JobState:
    """Return the state of a job that is over."""
    return state.change(ended=how, ended_at=at, reason=reason)


def all_settled(members: Mapping[str, MemberState]) -> bool:
    """Return whether nobody who is connected still owes something."""
    return all(one.lost or not one.owes for one in members.values())


def may_return(members: Mapping[str, MemberState]) -> bool:
    """Return whether somebody who owes something is merely disconnected."""
    return any(one.lost and one.owes for one in members.values())


def any_delivered(members: Mapping[str, MemberState]) -> bool:
    """Return whether somebody has done its task."""
    return any(one.state == "delivered" for one in members.values())


def missed(members: Mapping[str, MemberState]) -> dict[str, MemberState]:
    """Return the members when nobody is waited for any more."""
    return {
        device: msgspec.structs.replace(one, state="missed") if one.owes else one
        for device, one in members.items()
    }
