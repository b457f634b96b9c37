"""A round's updates, as they rest on disk, become the next adapter. Runs on a thread of its own."""

from dataclasses import replace
from pathlib import Path

from hub.aggregation.combine import combine
from hub.aggregation.contract import AggregationError, Contribution, Trained
from hub.aggregation.rules import factor_rule, product_rule
from hub.aggregation.strategies import by_name
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import trains_of
from hub.rounds.state import Update
from wire.blobs import BlobStore


class SpoiledUpdateError(AggregationError):
    """One device's blob can't be used; the round goes on without it."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"the update of {device}: {reason}")
        self.device = device


def combine_round(
    blobs: BlobStore,
    adapters: Adapters,
    action: Combine,
    *,
    rule: str,
    strategy: str,
    codec: str,
) -> tuple[str, dict[str, float]]:
    """Combine, pack and store; return the new manifest's sha256 and what was measured.

    Args:
        action: which updates, onto which adapter.
        rule: how LoRA factors are combined; prompts are averaged.
        strategy: how much each update weighs.
        codec: of the job file.

    Raises:
        SpoiledUpdateError: a blob or the adapter that it started from is gone.
        AggregationError, MalformedError: the updates can't be combined.
    """
    start = adapters.load(action.start)
    trained = [
        Trained(device=u.device, tokens=u.tokens, staleness=u.staleness(action.round))
        for u in action.updates
    ]
    weights = by_name(strategy).weights(trained)
    contributions = [
        _contribution(blobs, adapters, action, update, weight)
        for update, weight in zip(action.updates, weights, strict=True)
    ]
    product = product_rule(rule)
    contributions = [
        replace(one, trains=trains_of(product, update.rung, update.round))
        for one, update in zip(contributions, action.updates, strict=True)
    ]
    mean = factor_rule("mean")
    with combine(start, contributions, product, mean, action.round) as combined:
        manifest = adapters.advance(action.start, start, combined, action.round, codec)
    record = {f"weight.{u.device}": w for u, w in zip(action.updates, weights, strict=True)}
    return manifest, record


def _contribution(
    blobs: BlobStore, adapters: Adapters, action: Combine, update: Update, weight: float
) -> Contribution:
    path = blobs.path(update.sha256)
    if path is None:
        raise SpoiledUpdateError(update.device, "its blob is gone from the store")
    older: Path | None = None
    if update.start != action.start and update.role == "lora":
        try:
            older = adapters.load(update.start).lora
        except Exception as error:
            reason = f"the adapter it started from is gone ({error})"
            raise SpoiledUpdateError(update.device, reason) from error
    return Contribution(
        device=update.device,
        kind="lora" if update.role == "lora" else "prompt",
        weight=weight,
        update=path,
        rank=update.rank,
        start=older,
    )
