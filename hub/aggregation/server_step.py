"""From a round's mean to the next value: what a strategy does at the hub, one tensor at a time.

A rule gives the mean N of what the devices have become, from the current value M. A strategy's
weights sum to s, so the difference taken is Δ = s (N − M). With v ← β v + Δ (`Momentum`) the next
value is M + φ Δ + γ v: a sum of at most three low-rank products, which is truncated to the
adapter's rank, and v to twice that, the rank of a difference of two adapters. What is cut off v is
forgotten with it at the rate β, so after any number of rounds v is off by at most the largest cut
over 1 − β.

N is what would have been published: what its truncation dropped is not in Δ, as no device sees it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hub.aggregation.contract import Array, Array64, EntryStep, Factors, Momentum
from hub.aggregation.product_sum import ProductSum, double

#: What is kept of a tensor under momentum.
VELOCITY = "velocity"


@dataclass(frozen=True)
class StepOfFactors:
    """A layer after a step, and what is kept of it."""

    value: Factors
    velocity: Factors | None


@dataclass(frozen=True)
class StepOfTensor:
    """A tensor after a step, and what is kept of it, by slot."""

    value: Array
    kept: dict[str, Array]


def velocity_rank(rank: int) -> int:
    """Return the rank in which the momentum of an adapter of a rank is kept."""
    return 2 * rank


def step_product(
    current: Factors,
    mean: Factors,
    share: float,
    server: Momentum | None,
    velocity: Factors | None,
) -> StepOfFactors:
    """Return a layer after a step.

    Args:
        current: M, of rank R.
        mean: N, of rank R.
        share: s, the sum of the updates' weights.
        server: the step; None: M + Δ.
        velocity: v of the round before, None if there was none.
    """
    rank = current.rank
    if server is None:
        if share == 1:
            return StepOfFactors(mean, None)
        return StepOfFactors(_sum([(1 - share, current), (share, mean)], rank, current), None)
    grown = [(share, mean), (-share, current)]
    if velocity is not None:
        grown.append((server.decay, velocity))
    moved = _sum(grown, velocity_rank(rank), current)
    fresh = server.fresh * share
    terms = [(1 - fresh, current), (fresh, mean), (server.carried, moved)]
    return StepOfFactors(_sum([term for term in terms if term[0]], rank, current), moved)


def _sum(terms: Sequence[tuple[float, Factors]], rank: int, current: Factors) -> Factors:
    """Return the best approximation of a sum of products; directions it lacks are A's of now."""
    total = ProductSum(out=current.b.shape[0], width=current.a.shape[1])
    for factor, one in terms:
        a, b = double(one)
        total.add(factor * b, a)
    return total.truncated(rank, 1.0, double(current)[0])


def slots_of(server: Momentum | EntryStep | None) -> tuple[str, ...]:
    """Return the names of what is kept of a tensor whose entries keep their meaning."""
    if server is None:
        return ()
    return (VELOCITY,) if isinstance(server, Momentum) else server.slots


def step_tensor(
    current: Array,
    mean: Array,
    share: float,
    server: Momentum | EntryStep | None,
    before: Mapping[str, Array] | None,
) -> StepOfTensor:
    """Return a tensor after a step, for one whose entries mean the same in every round.

    Args:
        current: M.
        mean: N.
        share: s, the sum of the updates' weights.
        server: the step; None: M + Δ.
        before: what was kept of the tensor, by slot; None if nothing was.
    """
    if server is None and share == 1:
        return StepOfTensor(mean, {})
    start = current.astype(np.float64)
    difference = share * (mean.astype(np.float64) - start)
    known = None if before is None else {name: _double(one) for name, one in before.items()}
    moved, kept = _step(difference, server, known)
    value: Array = (start + moved).astype(np.float32)
    return StepOfTensor(value, {name: one.astype(np.float32) for name, one in kept.items()})


def _step(
    difference: Array64,
    server: Momentum | EntryStep | None,
    before: Mapping[str, Array64] | None,
) -> tuple[Array64, dict[str, Array64]]:
    if server is None:
        return difference, {}
    if not isinstance(server, Momentum):
        return server.step(difference, before)
    velocity = difference.copy()
    if before is not None:
        velocity += server.decay * before[VELOCITY]
    return server.fresh * difference + server.carried * velocity, {VELOCITY: velocity}


def _double(tensor: Array) -> Array64:
    return tensor.astype(np.float64)
