"""Numbers of jobs and devices, from their states; pure.

Counts come from the jobs' records, which are kept in the log: they go on where they were after the
hub was started again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from hub.rounds.losses import adapter_losses, base_loss, weighted_mean
from hub.rounds.state import JobState, RoundRecord


class JobFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One job's numbers.

    Attributes:
        round: the one under way, or the last; 0 before the first opens.
        members: tasks of all rounds by how they stand: delivered, missed, late, failed, ...
        rounds_ended: by how: published, rolled_back, failed.
        update_bytes: of all accepted updates, as they travelled.
        training_tokens: on which their devices took a loss.
        round_seconds: from a round's opening to its close, of those that closed, in all.
        heldout_loss: of the newest released adapter that was measured.
    """

    job: str
    phase: str
    round: int
    rounds: int
    members: Mapping[str, int]
    rounds_ended: Mapping[str, int]
    update_bytes: int
    training_tokens: int
    round_seconds: float
    closed_rounds: int
    base_loss: float | None
    heldout_loss: float | None


class _Round(msgspec.Struct, frozen=True):
    """What a record adds."""

    members: Counter[str]
    update_bytes: int
    tokens: int
    seconds: float | None


class Figures:
    """Counts records once: a record is never changed, only replaced."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[RoundRecord, _Round]] = {}

    def of_jobs(self, states: Iterable[tuple[str, JobState, int]]) -> list[JobFigures]:
        """Return each job's numbers.

        Args:
            states: name, state and number of rounds of each job.
        """
        return [self._job(name, state, rounds) for name, state, rounds in states]

    def _job(self, name: str, state: JobState, rounds: int) -> JobFigures:
        members: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        size_bytes = tokens = closed = 0
        seconds = 0.0
        for record in state.records:
            found = self._round(name, record)
            members += found.members
            size_bytes, tokens = size_bytes + found.update_bytes, tokens + found.tokens
            if found.seconds is not None:
                seconds, closed = seconds + found.seconds, closed + 1
            if record.phase in ("published", "rolled_back", "failed"):
                ended[record.phase] += 1
        opened = [record.round for record in state.records if record.opened_at is not None]
        return JobFigures(
            job=name,
            phase=state.phase,
            round=min(max(opened, default=0), rounds),
            rounds=rounds,
            members=dict(members),
            rounds_ended=dict(ended),
            update_bytes=size_bytes,
            training_tokens=tokens,
            round_seconds=seconds,
            closed_rounds=closed,
            base_loss=base_loss(state),
            heldout_loss=_newest_loss(state),
        )

    def _round(self, name: str, record: RoundRecord) -> _Round:
        key = (name, record.round)
        known = self._known.get(key)
        if known is None or known[0] is not record:
            known = self._known[key] = record, _counted(record)
        return known[1]


def _newest_loss(state: JobState) -> float | None:
    """Return the loss of the newest released adapter that was measured; None before the first."""
    for record in reversed(state.records):
        if record.published_at is not None:
            loss = weighted_mean(adapter_losses(state, record.round).values())
            if loss is not None:
                return loss
    return None


def _counted(record: RoundRecord) -> _Round:
    states = (
        "lost" if one.lost and one.owes else str(one.state) for one in record.members.values()
    )
    taken = [*record.accepted.values(), *record.stale.values(), *record.superseded]
    seconds = None
    if record.closed_at is not None and record.opened_at is not None:
        seconds = max(0.0, record.closed_at - record.opened_at)
    return _Round(
        Counter(states),
        sum(one.size_bytes for one in taken),
        sum(one.tokens for one in taken),
        seconds,
    )
