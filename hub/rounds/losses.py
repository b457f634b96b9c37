"""Held-out losses of a job: token-weighted means of what devices measured on their own text."""

import math
from collections.abc import Iterable
from statistics import fmean, pstdev

from hub.rounds.state import JobState
from wire.messages.requests import Evaluation


def weighted_mean(evaluations: Iterable[Evaluation]) -> float | None:
    """Return the mean loss per token over all devices' tokens; None: nobody reported.

    What a device measured with a part of the adapter's components is not the adapter's loss.
    """
    total, tokens = 0.0, 0
    for one in evaluations:
        if one.rank:
            continue
        total += one.loss * one.tokens
        tokens += one.tokens
    return total / tokens if tokens else None


def worst_tenth(evaluations: Iterable[Evaluation]) -> float | None:
    """Return the mean loss of the tenth of devices that have the highest; None: nobody reported.

    Of a tenth that is no whole number of devices, all that are begun count: of 11 it is 2.
    """
    losses = sorted((one.loss for one in evaluations if not one.rank), reverse=True)
    return fmean(losses[: math.ceil(len(losses) / 10)]) if losses else None


def spread(evaluations: Iterable[Evaluation]) -> float | None:
    """Return the standard deviation of the devices' losses, each counting alike."""
    losses = [one.loss for one in evaluations if not one.rank]
    return pstdev(losses) if losses else None


def starts(state: JobState) -> list[int]:
    """Return for each record the round whose adapter it began with; 0: the job's start."""
    found, released = [], 0
    for record in state.records:
        found.append(released)
        if record.published_at is not None:
            released = record.round
    return found


def adapter_losses(state: JobState, round_: int) -> dict[str, Evaluation]:
    """Return each device's loss of the adapter that a round made; of the start for round 0.

    Devices measure it before it is released, if the job has a gate, when a round begins with it,
    and in the final evaluation. The newest loss of each device counts.
    """
    record = state.record(round_)
    found: dict[str, Evaluation] = {}
    if record is not None and record.candidate is not None:
        found |= record.candidate.losses
    if record is None or record.published_at is not None:
        later = state.records[round_:]
        for one in later:
            if one.start != later[0].start:
                break
            found |= _variant(state, one.round, "adapter")
    return {device: found[device] for device in sorted(found)}


def heldout_losses(state: JobState) -> list[float | None]:
    """Return the loss of what was there after each round, from the start's on.

    As far as rounds have begun. After one that was rolled back that is the adapter before it.
    """
    return [weighted_mean(adapter_losses(state, one).values()) for one in starts(state)]


def base_losses(state: JobState) -> dict[str, Evaluation]:
    """Return each device's newest loss of the bare base."""
    newest: dict[str, Evaluation] = {}
    for record in state.records:
        newest.update(_variant(state, record.round, "base"))
    return newest


def without_prompt_losses(state: JobState) -> dict[str, Evaluation]:
    """Return each device's loss of the final adapter with its soft prompt taken away."""
    if state.rules is None:
        return {}
    return _variant(state, state.last_round + 1, "without_prompt")


def base_loss(state: JobState) -> float | None:
    """Return the loss of the bare base over all devices that measured it."""
    return weighted_mean(base_losses(state).values())


def _variant(state: JobState, round_: int, variant: str) -> dict[str, Evaluation]:
    record = state.record(round_)
    if record is None:
        return {}
    return {
        device: losses[variant]
        for device, losses in sorted(record.losses.items())
        if variant in losses
    }
