"""The next global adapter from the updates of a round, a layer on each core at a time.

Updates rest on disk. A layer is combined when it is asked for, or a little ahead of that: just that
one is read from each update, in device-id order, so that neither memory nor the result depends on
how many updates or layers there are or who came first.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np

from hub.aggregation.ahead import Ahead
from hub.aggregation.contract import (
    AggregationError,
    Array,
    Contribution,
    FactorRule,
    Factors,
    FactorsUpdate,
    GlobalAdapter,
    ProductRule,
    Slice,
    VectorUpdate,
)
from hub.aggregation.layers import Layers
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.vectors import KEPT_OPEN, PackedFiles, Vectors
from wire.codecs.contract import Shape
from wire.core_directions import directions
from wire.manifest import AdapterManifest
from wire.tensors import reading
from wire.trained_factors import Trains


@dataclass(frozen=True)
class Combined:
    """The new global adapter's tensors. A part is None when nobody contributed to it."""

    lora: Layers | None
    prompt: Mapping[str, Array] | None
    full: Mapping[str, Array] | None = None


@contextmanager
def combine(
    current: GlobalAdapter,
    contributions: Sequence[Contribution],
    product: ProductRule,
    factor: FactorRule,
    round_: int = 1,
) -> Iterator[Combined]:
    """Give a round's updates combined, as long as the context lasts; the inputs are not changed.

    Args:
        current: the published adapter, as the devices decoded it.
        contributions: in any order; weights count within a part of the adapter.
        product: how LoRA factors are combined.
        factor: how soft prompts and whole weights are combined.
        round_: that ends with this.

    Raises:
        AggregationError: a device contributed twice, or to a part that the adapter lacks.
        wire.errors.MalformedError: a blob isn't what was accepted; also when a layer is read.
    """
    ordered = sorted(contributions, key=lambda one: (one.kind, one.device))
    for first, second in pairwise(ordered):
        if (first.kind, first.device) == (second.kind, second.device):
            raise AggregationError(
                f"device {first.device} contributed twice; pass one update per device."
            )
    lora, prompt, full = (
        [one for one in ordered if one.kind == kind] for kind in ("lora", "prompt", "full")
    )
    if prompt and current.prompt is None:
        raise AggregationError("there are prompt updates, but the global adapter has no prompt.")
    if full and not current.manifest.weights:
        raise AggregationError("there are updates of all weights, but the adapter has none.")
    shapes, weights = current.manifest.expected_prompt(), current.manifest.expected_full()
    with ExitStack() as stack:
        yield Combined(
            lora=_combine_lora(current, lora, product, stack, round_) if lora else None,
            # Small, and so in memory.
            prompt=dict(_combine_vectors(current.prompt, shapes, prompt, factor, stack))
            if prompt
            else None,
            full=_combine_vectors(current.full, weights, full, factor, stack) if full else None,
        )


def _combine_lora(
    current: GlobalAdapter,
    contributions: list[Contribution],
    rule: ProductRule,
    stack: ExitStack,
    round_: int,
) -> Layers:
    if not current.lora:
        raise AggregationError("there are LoRA updates, but the global adapter has no LoRA part.")
    manifest = current.manifest
    factors = stack.enter_context(_Opened(manifest))

    def combined(target: str) -> Factors:
        whole = factors.read(current.lora, target)
        return rule.combine(whole, _LayerUpdates(contributions, factors, whole, target))

    # In the order of names, in which layers are packed and stepped.
    shapes = dict(sorted(manifest.expected_lora(manifest.rank).items()))
    ahead = stack.enter_context(Ahead(combined, sorted(manifest.shapes)))
    return Layers(shapes, ahead.factors, rule.basis(round_))


@dataclass(frozen=True)
class _LayerUpdates:
    """One layer of all updates, read anew whenever they are gone through."""

    contributions: list[Contribution]
    factors: "_Opened"
    current: Factors
    target: str

    def __iter__(self) -> Iterator[FactorsUpdate]:
        for one in self.contributions:
            start = None if one.start is None else self.factors.read(one.start, self.target)
            if one.trains == "core":
                delta = self._of_core(one, self.current if start is None else start)
            else:
                update = (Slice(one.update, one.rank),)
                delta = self.factors.read(update, self.target, one.trains)
            yield FactorsUpdate(weight=one.weight, delta=delta, start=start)

    def _of_core(self, one: Contribution, start: Factors) -> Factors:
        """Return what a core changed as a change of B: U (C + Δ) A = (B + U Δ) A."""
        leading = start.leading(one.rank)
        u, _ = directions(leading.b)
        moved = self.factors.read_core(Slice(one.update, one.rank), self.target)
        return Factors(np.zeros_like(leading.a), u @ moved)


class _Opened:
    """Reads single layers of packed files, the first few of which stay open.

    Checking a header takes milliseconds, which every layer would repeat; but a round may have
    more updates than a process may have open files, and headers take memory too. One thread reads
    at a time, as a file has one position.
    """

    def __init__(self, manifest: AdapterManifest) -> None:
        self._manifest = manifest
        self._open: dict[tuple[tuple[Slice, ...], Trains], SlicedFactors] = {}
        self._files = 0
        self._stack = ExitStack()
        self._lock = Lock()

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, slices: tuple[Slice, ...], target: str, trains: Trains = "both") -> Factors:
        """Return one layer's factors; those that the files don't hold are zeros.

        Args:
            slices: the files.
            target: the layer.
            trains: which factors they hold.
        """
        with self._lock, self._opened(slices, trains) as opened:
            return opened.factors(target)

    def read_core(self, update: Slice, target: str) -> Array:
        """Return what changed in one layer's core, (rank, rank)."""
        with self._lock, self._opened((update,), "core") as opened:
            return opened.tensor(f"{target}.core")

    @contextmanager
    def _opened(self, slices: tuple[Slice, ...], trains: Trains) -> Iterator[SlicedFactors]:
        key = slices, trains
        if key in self._open:
            yield self._open[key]
            return
        opened = SlicedFactors(self._manifest, slices, trains)
        if self._files + len(slices) <= KEPT_OPEN:
            self._files += len(slices)
            self._open[key] = self._stack.enter_context(opened)
            yield opened
            return
        with opened:
            yield opened


def _combine_vectors(
    current: Path | None,
    expected: Mapping[str, Shape],
    contributions: list[Contribution],
    rule: FactorRule,
    stack: ExitStack,
) -> Vectors:
    before = stack.enter_context(reading(current, expected))
    files = stack.enter_context(PackedFiles(expected))

    # A difference is added as it is, whichever value it started from.
    def combined(name: str) -> Array:
        updates = (VectorUpdate(one.weight, files.get(one.update, name)) for one in contributions)
        return rule.combine(before(name), updates)

    return Vectors(expected, combined)
