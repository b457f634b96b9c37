"""What aggregation works on, and what a rule and a strategy must offer.

A *rule* says how the updates of one layer are combined; a *strategy* says how much each one
weighs. A new one is a new file in `rules/` or `strategies/`; the registries find it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hub.errors import HubError
from wire.manifest import AdapterManifest

Array = NDArray[np.float32]
Kind = Literal["lora", "prompt"]


class AggregationError(HubError):
    """Updates that can't be combined: a mistake of the hub, or a blob that changed on disk."""


class RefusedUpdateError(AggregationError):
    """An update that must not enter a round; the device is told the reason."""


class Slice(NamedTuple):
    """A packed file with a range of LoRA components."""

    path: Path
    rank: int


@dataclass(frozen=True)
class GlobalAdapter:
    """A published adapter on disk, as the devices decoded it: it *is* the hub's state."""

    manifest: AdapterManifest
    lora: tuple[Slice, ...]  # the most important components first; none in a job of prompts alone
    prompt: Path | None  # packed soft prompt; None when the job has none


@dataclass(frozen=True)
class Contribution:
    """One accepted update and the adapter from which its device started.

    ``start`` is None when that was the current global adapter. An update that came late names the
    factors of the older one; its difference is added to the current adapter.
    """

    device: str
    kind: Kind
    weight: float  # > 0; only the ratios matter
    update: Path  # packed differences to the start
    rank: int = 0  # of the device's LoRA factors; 0 for a prompt
    start: tuple[Slice, ...] | None = None

    @property
    def stale(self) -> bool:
        """Whether the device started from an older global adapter."""
        return self.start is not None


@dataclass(frozen=True)
class Factors:
    """The low-rank product ``b @ a`` of one layer."""

    a: Array  # (rank, in)
    b: Array  # (out, rank)

    @property
    def rank(self) -> int:
        """The number of components."""
        return int(self.a.shape[0])

    def leading(self, rank: int) -> "Factors":
        """Return the first components, of which a device of that rank starts."""
        return Factors(self.a[:rank], self.b[:, :rank])


@dataclass(frozen=True)
class FactorsUpdate:
    """One device's update of one layer.

    ``delta`` holds the differences of both factors to the leading components of ``start``, which
    is None for the current adapter.
    """

    weight: float
    delta: Factors
    start: Factors | None = None


@dataclass(frozen=True)
class VectorUpdate:
    """One device's difference of one tensor, to whichever value it started from."""

    weight: float
    delta: Array


class ProductRule(Protocol):
    """Combines updates that are low-rank products, of any mix of ranks."""

    name: str

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the layer's new factors, of the rank of ``current``.

        ``updates`` is read once, one update at a time. Rows of the new ``a`` have unit norm, in
        order of falling importance; ``b`` takes the scale. Weights are normalised inside.

        Raises:
            AggregationError: there are no updates, a weight isn't positive, or shapes don't match.
        """


class FactorRule(Protocol):
    """Combines updates that are vectors in one common basis."""

    name: str

    def combine(self, current: Array, updates: Iterable[VectorUpdate]) -> Array:
        """Return the tensor's new value; ``updates`` is read once, one update at a time.

        Raises:
            AggregationError: there are no updates, a weight isn't positive, or shapes don't match.
        """


@dataclass(frozen=True)
class Trained:
    """What the hub knows of an update when it decides how much it counts."""

    device: str
    tokens: int  # on which a loss was taken
    staleness: int  # published rounds between the update's start and now


class Strategy(Protocol):
    """Gives each update of a round its weight."""

    name: str

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return one positive weight for each update, in the given order; they sum to 1.

        Raises:
            AggregationError: an update has no tokens or a negative staleness.
        """


def check_weight(weight: float) -> float:
    """Return the weight, if it is one.

    Raises:
        AggregationError: it isn't a positive finite number.
    """
    if not (np.isfinite(weight) and weight > 0):
        raise AggregationError(f"an update weighs {weight}; weights are positive and finite.")
    return weight
