"""Shares of the updates, from which strategies start."""

import math
from collections.abc import Sequence

from hub.aggregation.contract import AggregationError, Trained


def damped(staleness: int) -> float:
    """Return what a late update counts: 1/√(1 + s), as in FedBuff (arXiv 2106.06639, section 5)."""
    return 1 / math.sqrt(1 + staleness)


def by_tokens(updates: Sequence[Trained]) -> list[float]:
    """Return tokens / √(1 + staleness) of each update, scaled to sum to 1.

    Raises:
        AggregationError: an update has no tokens, no steps, or a negative staleness.
    """
    check(updates)
    raw = [update.tokens * damped(update.staleness) for update in updates]
    total = math.fsum(raw)
    return [weight / total for weight in raw]


def evenly(updates: Sequence[Trained]) -> list[float]:
    """Return 1 / √(1 + staleness) of each update, scaled to sum to 1.

    Raises:
        AggregationError: an update has no tokens, no steps, or a negative staleness.
    """
    check(updates)
    raw = [damped(update.staleness) for update in updates]
    total = math.fsum(raw)
    return [weight / total for weight in raw]


def check(updates: Sequence[Trained]) -> None:
    """Let pass only updates that can have been trained.

    Raises:
        AggregationError: an update has no tokens, no steps, or a negative staleness.
    """
    for update in updates:
        if update.tokens <= 0 or update.steps <= 0 or update.staleness < 0:
            raise AggregationError(
                f"the update of {update.device} has {update.tokens} tokens, {update.steps} steps "
                f"and a staleness of {update.staleness}; tokens and steps must be positive, "
                "staleness not negative."
            )
