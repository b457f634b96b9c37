"""What aggregation works on, and what a rule and a strategy must offer.

A *rule* says how the updates of one layer are combined; a *strategy* says how much each one
weighs, and what becomes of their mean. A new one is a new file in `rules/` or `strategies/`; the
registries find it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hub.errors import HubError
from wire.manifest import AdapterManifest
from wire.trained_factors import Rest, Trains

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]
Kind = Literal["lora", "prompt", "full"]
#: What becomes of a layer's basis in a round. ``same``: the factors move, component by component.
#: ``turned``: only the product counts, so the hub may turn the factors towards the ones before
#: (`hub.aggregation.alignment`). ``new``: other components, in an order that counts.
Basis = Literal["same", "turned", "new"]
#: From what stays nearest to the one before to what has nothing to do with it.
BASES: tuple[Basis, ...] = ("same", "turned", "new")


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
    #: How far all weights have moved, packed; None when they have not, or aren't trained.
    full: Path | None = None


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
    rank: int = 0  # of the device's LoRA factors; 0 for other parts
    start: tuple[Slice, ...] | None = None
    trains: Trains = "both"  # which factors the update holds

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
    is None for the current adapter; those of a factor that was not trained are zeros.
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
    """Combines updates that are low-rank products, of any mix of ranks.

    Attributes:
        rest: what a device of lower rank does with the components behind its own: its update is a
            change of the whole adapter (``frozen``), or of the leading components as if there were
            no others (``absent``).
        cores: whether a device that trains a core alone (`wire.core_directions`) may take part: its
            update is a change of B, too.
    """

    name: str
    rest: Rest
    cores: bool

    def basis(self, round_: int) -> Basis:
        """Return in which basis the factors stand after a round, beside those before it."""

    def trains(self, round_: int) -> Trains:
        """Return which factors the devices train in a round, counted from 1."""

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        """Return the layer's new factors, of the rank of ``current``.

        ``updates`` may be gone through more than once; one update at a time is then read. Unless
        the basis is the same, rows of the
        new ``a`` are orthonormal, in order of falling importance, and ``b`` takes the scale.
        Weights are normalised inside.

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
    steps: int = 1  # of the local optimiser, as the device was asked for
    lr: float = 0.0  # of those steps
    momentum: float = 0.0  # of the local SGD; 0 without, and for AdamW


@dataclass(frozen=True)
class Momentum:
    """A server step that is linear in the rounds' mean differences Δ: v ← decay v + Δ.

    The adapter moves by ``fresh`` Δ + ``carried`` v. A sum of differences means the same in every
    basis, so this acts on products as well as on tensors.
    """

    decay: float
    fresh: float
    carried: float


class EntryStep(Protocol):
    """A server step that treats each entry by itself, so that entries must keep their meaning.

    Attributes:
        slots: names of what is kept of each tensor from round to round, of the tensor's shape.
    """

    slots: tuple[str, ...]

    def step(
        self, difference: Array64, before: Mapping[str, Array64] | None
    ) -> tuple[Array64, dict[str, Array64]]:
        """Return by how much a tensor moves, and what is kept of it.

        Args:
            difference: Δ, the mean difference of a round.
            before: what was kept by slot; None in the first round.
        """


class ControlRule(Protocol):
    """How a device's control variate follows from its update."""

    def after(
        self, own: Array64, common: Array64, difference: Array64, steps: int, lr: float
    ) -> Array64:
        """Return a device's control variate after a round.

        Args:
            own: its control variate before.
            common: the mean of all devices', with which it trained.
            difference: its update of the tensor.
            steps: of its local optimiser.
            lr: of those.
        """


@dataclass(frozen=True)
class LocalTerms:
    """What a strategy asks of the devices' training."""

    proximal_mu: float = 0.0  # pull towards the start: μ (value - start) is added to a gradient
    control: ControlRule | None = None  # common - own control variate is added to a gradient
    needs: Mapping[str, object] = field(default_factory=dict)  # values of keys under ``local``
    why: str = ""  # it needs those

    @property
    def kept(self) -> int:
        """How many numbers a device keeps for each number that it trains."""
        return int(self.proximal_mu > 0) + int(self.control is not None)


class Strategy(Protocol):
    """Gives each update of a round its weight, and says what becomes of their mean.

    A frozen dataclass whose fields are its keys under ``server`` in the job file.

    Attributes:
        basis: ``any``, or ``fixed`` if each entry of a tensor must mean the same in every round.
    """

    name: ClassVar[str]
    basis: ClassVar[Literal["any", "fixed"]]

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return one positive weight for each update of a part, in the given order.

        Their ratios make the mean difference; their sum says how much of it is taken. That is 1
        for a plain mean, and for updates that were trained alike and came in time.

        Raises:
            AggregationError: an update has no tokens, no steps, or a negative staleness.
        """

    @property
    def server(self) -> Momentum | EntryStep | None:
        """What turns the mean difference into a step; None: the mean is taken as it is."""

    @property
    def local(self) -> LocalTerms:
        """What the devices' training must add."""


def check_weight(weight: float) -> float:
    """Return the weight, if it is one.

    Raises:
        AggregationError: it isn't a positive finite number.
    """
    if not (np.isfinite(weight) and weight > 0):
        raise AggregationError(f"an update weighs {weight}; weights are positive and finite.")
    return weight


def check_factors(update: FactorsUpdate, current: Factors) -> None:
    """Check that an update belongs to a layer.

    Raises:
        AggregationError: shapes don't match, or the rank is not of its start.
    """
    out, width = current.b.shape[0], current.a.shape[1]
    rank = update.delta.rank
    start = current if update.start is None else update.start
    if update.delta.a.shape != (rank, width) or update.delta.b.shape != (out, rank):
        raise AggregationError(
            f"an update's factors have shapes {update.delta.a.shape} and {update.delta.b.shape}; "
            f"this layer takes ({rank}, {width}) and ({out}, {rank})."
        )
    if not 0 < rank <= start.rank:
        raise AggregationError(f"an update has rank {rank}; its start has {start.rank}.")
    if start.a.shape[1] != width or start.b.shape[0] != out:
        raise AggregationError(
            f"an update started from a layer of {start.b.shape[0]} × {start.a.shape[1]}; "
            f"this one has {out} × {width}."
        )
