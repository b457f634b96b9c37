"""A round's updates, as they rest on disk, become the next adapter. Runs on a thread of its own."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hub.aggregation.combine import combine
from hub.aggregation.contract import (
    AggregationError,
    Contribution,
    Kind,
    Slice,
    Strategy,
    Trained,
)
from hub.aggregation.forward_only import write_cores
from hub.aggregation.rules import factor_rule, keeps_basis, product_rule
from hub.rounds import events
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import kind_of, local_seed, trains_of
from hub.rounds.controls import Controls, advance
from hub.rounds.own_round import OwnRound
from hub.rounds.server_state import read_state, state_blobs
from hub.rounds.server_steps import ServerSteps
from hub.rounds.state import Update
from hub.scheduling.contract import FORWARD_ONLY
from wire.blobs import BlobStore
from wire.manifest import AdapterManifest
from wire.trained_factors import Trains


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
    strategy: Strategy,
    trained: Callable[[Update, int], Trained],
    codec: str,
    step: Callable[[int], int] = int,
    own: OwnRound | None = None,
    seed: int = 0,
) -> events.Combined:
    """Combine, take the strategy's step, pack and store; return what goes into the log.

    Args:
        action: which updates, onto which adapter.
        rule: how LoRA factors are combined; other parts are averaged.
        strategy: how much each update weighs, and what becomes of the mean.
        trained: what the strategy is told of an update that is combined in a round.
        codec: of the job file.
        step: which round it is for the rule; see `hub.rounds.state.JobState.step`.
        own: the hub's own text, if there is any; it is closed in the end.
        seed: the job's, from which the directions of updates without backprop follow.

    Raises:
        SpoiledUpdateError: a blob or the adapter that it started from is gone.
        StoppedError: the hub's own work was stopped.
        AggregationError, MalformedError: the updates can't be combined.
    """
    start = adapters.load(action.start)
    product = product_rule(rule)
    with ExitStack() as stack:
        gathered = _gathered(
            blobs,
            adapters,
            action,
            strategy=strategy,
            trained=trained,
            trains=lambda one: trains_of(product, one.rung, step(one.round)),
        )
        contributions = [
            replace(one, update=stack.enter_context(_cores(blobs, start.manifest, one, by, seed)))
            if by.rung == FORWARD_ONLY
            else one
            for one, by in gathered.contributions
        ]
        controls = None
        if strategy.local.control is not None:
            before = (
                read_state(blobs, action.state).controls if action.state else Controls(None, {})
            )
            files = {one.device: one.update for one in contributions}
            fresh = [
                (trained(one, action.round), files[one.device])
                for one in action.updates
                if not one.staleness(action.round)
            ]
            shapes = start.manifest.expected_prompt() | start.manifest.expected_full()
            controls = advance(blobs, shapes, before, fresh, strategy.local.control)
        basis, mean = product.basis(step(action.round)), factor_rule("mean")
        mixed = any(
            kind_of(u.role) == "lora" and u.rank < start.manifest.rank for u in action.updates
        )
        steps = ServerSteps(blobs, strategy.server, basis, fixed=keeps_basis(product))
        count = step(action.round)
        combined = stack.enter_context(combine(start, contributions, product, mean, count))
        stepped = stack.enter_context(
            steps.step(start, combined, gathered.shares, action.state, controls)
        )
        new = stepped.combined
        record = gathered.record
        if own is not None:
            stack.callback(own.close)
            own.hold(state_blobs(blobs, stepped.state) if stepped.state else ())
            new = stack.enter_context(own.with_public_text(action, start, new, product, count))
        manifest = adapters.advance(action.start, start, new, action.round, codec, mixed=mixed)
        if own is not None:
            own.validate(action.round, manifest)
            record |= own.record
    return events.Combined(
        round=action.round,
        manifest=manifest,
        record=record,
        state=stepped.state,
        problem=" ".join(own.problems) if own is not None else "",
    )


@dataclass(frozen=True)
class _Gathered:
    """A round's updates by weight, with what is told of them."""

    contributions: list[tuple[Contribution, Update]]
    shares: dict[Kind, float]
    record: dict[str, float]


def _gathered(
    blobs: BlobStore,
    adapters: Adapters,
    action: Combine,
    *,
    strategy: Strategy,
    trained: Callable[[Update, int], Trained],
    trains: Callable[[Update], Trains],
) -> _Gathered:
    found = _Gathered([], {}, {})
    kinds: tuple[Kind, ...] = ("lora", "prompt", "full")
    for kind in kinds:
        updates = [one for one in action.updates if kind_of(one.role) == kind]
        if not updates:
            continue
        weights = strategy.weights([trained(one, action.round) for one in updates])
        found.shares[kind] = _share(weights)
        for update, weight in zip(updates, weights, strict=True):
            one = _contribution(blobs, adapters, action, update, weight)
            found.contributions.append((replace(one, trains=trains(update)), update))
            found.record[f"weight.{update.device}"] = weight
    return found


@contextmanager
def _cores(
    blobs: BlobStore, manifest: AdapterManifest, one: Contribution, update: Update, seed: int
) -> Iterator[Path]:
    """Give the cores to which an update's steps lead, in a file."""
    path = blobs.folder / "tmp" / f"{update.sha256}.{one.device}.cores"
    seed = local_seed(seed, update.round)
    try:
        write_cores(one.update, path, manifest, one.rank, seed, steps=update.steps)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _share(weights: Sequence[float]) -> float:
    """Return the sum of weights, in which rounding makes no step of a plain mean."""
    total = math.fsum(weights)
    return 1.0 if math.isclose(total, 1.0, rel_tol=1e-12) else total


def _contribution(
    blobs: BlobStore, adapters: Adapters, action: Combine, update: Update, weight: float
) -> Contribution:
    path = blobs.path(update.sha256)
    if path is None:
        raise SpoiledUpdateError(update.device, "its blob is gone from the store")
    older: tuple[Slice, ...] | None = None
    if update.start != action.start and kind_of(update.role) == "lora":
        try:
            older = adapters.load(update.start).lora
        except Exception as error:
            reason = f"the adapter it started from is gone ({error})"
            raise SpoiledUpdateError(update.device, reason) from error
    return Contribution(
        device=update.device,
        kind=kind_of(update.role),
        weight=weight,
        update=path,
        rank=update.rank,
        start=older,
    )
