"""Adapters of a job side by side, by what the same devices or the hub measured of both.

Devices differ in their text, and in each round others are there: the means of two different sets of
devices say nothing about two adapters. So only devices that measured both count.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from hub.rounds.events import VALIDATION, Metric
from hub.rounds.losses import adapter_losses, weighted_mean, worst_tenth
from hub.rounds.state import Comparison, JobState
from wire.messages.requests import Evaluation

#: In a round's record: the loss of the bare base on the hub's own text, measured once in a job.
VALIDATION_BASE = "validation_base_loss"
_FLEET: dict[Metric, Callable[[Sequence[Evaluation]], float | None]] = {
    "heldout_loss": weighted_mean,
    "worst_tenth": worst_tenth,
}


class Trend(NamedTuple):
    """How long ago a metric improved last."""

    best: int  # the round after which it did; 0: the start has the best one
    rounds: int  # measured since then


def compare(
    state: JobState, metric: Metric, round_: int, reference_round: int
) -> Comparison | None:
    """Return a round's adapter beside another round's; None: nobody measured both.

    Args:
        state: of the job.
        metric: by which; `Comparison` tells the units.
        round_: whose adapter is looked at; round 0 is the start.
        reference_round: whose adapter it is compared with.
    """
    if metric == VALIDATION:
        return _on_own_text(state, round_, reference_round)
    new, old = _whole(state, round_), _whole(state, reference_round)
    both = sorted(new.keys() & old.keys())
    # The same weights on both sides: a device may have got more text meanwhile.
    weighted = [msgspec.structs.replace(old[one], tokens=new[one].tokens) for one in both]
    loss, reference = _FLEET[metric]([new[one] for one in both]), _FLEET[metric](weighted)
    if loss is None or reference is None:
        return None
    return Comparison(
        metric=metric,
        loss=loss,
        reference=reference,
        reference_round=reference_round,
        devices=len(both),
    )


def is_measured(state: JobState, metric: Metric, round_: int) -> bool:
    """Return whether anybody measured a round's adapter."""
    if metric == VALIDATION:
        return _validation_loss(state, round_) is not None
    return bool(_whole(state, round_))


def trend(state: JobState, metric: Metric, min_delta: float) -> Trend:
    """Return how long ago the adapters of a job improved last.

    Each one is compared with the best one before it. One that was rolled back is no improvement;
    one that nobody measured, or nobody who knows the best one, says nothing, and the latter is
    what the next ones are compared with.

    Args:
        state: of the job.
        metric: by which they are compared.
        min_delta: in nats per token; less than this is no improvement.
    """
    best, rounds = 0, 0
    for record in state.records:
        if record.rolled_back_at is not None:
            rounds += 1
            continue
        if record.combined is None or not is_measured(state, metric, record.round):
            continue
        found = compare(state, metric, record.round, best)
        if found is None:
            best = record.round
        elif found.reference - found.loss >= min_delta:
            best, rounds = record.round, 0
        else:
            rounds += 1
    return Trend(best, rounds)


def _on_own_text(state: JobState, round_: int, reference_round: int) -> Comparison | None:
    loss, reference = _validation_loss(state, round_), _validation_loss(state, reference_round)
    if loss is None or reference is None:
        return None
    return Comparison(
        metric=VALIDATION,
        loss=loss,
        reference=reference,
        reference_round=reference_round,
        devices=0,
    )


def _validation_loss(state: JobState, round_: int) -> float | None:
    if round_ == 0:
        is_base = state.rules is not None and state.rules.start_is_base
        known = (one.record.get(VALIDATION_BASE) for one in state.records if is_base)
        return next((loss for loss in known if loss is not None), None)
    record = state.record(round_)
    return record.record.get(VALIDATION) if record is not None else None


def _whole(state: JobState, round_: int) -> dict[str, Evaluation]:
    """Return each device's loss of a round's adapter, with all of its components."""
    found = adapter_losses(state, round_)
    return {device: one for device, one in found.items() if not one.rank}
