"""Held-out losses of a job: token-weighted means of what devices measured on their own text."""

from collections.abc import Iterable

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


def adapter_losses(state: JobState, adapter_round: int) -> dict[str, Evaluation]:
    """Return each device's loss of the adapter after a round; round 0: the start.

    Devices measure it when the next round begins, or in the final evaluation.
    """
    return _variant(state, adapter_round + 1, "adapter")


def heldout_losses(state: JobState) -> list[float | None]:
    """Return the loss of each adapter, from the start's on, as far as rounds have begun."""
    return [
        weighted_mean(adapter_losses(state, index).values()) for index in range(len(state.records))
    ]


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
    return _variant(state, state.rules.rounds + 1, "without_prompt")


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
