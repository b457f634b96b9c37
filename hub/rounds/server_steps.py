"""A strategy's step at the hub, from blobs to blobs.

Each layer or tensor is combined once, when its step is taken: the result and what is kept lie on
disk until both are packed (`hub.rounds.spool`). So one of them at a time is in memory.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.aggregation.combine import Combined
from hub.aggregation.contract import (
    AggregationError,
    Array,
    Basis,
    EntryStep,
    Factors,
    GlobalAdapter,
    Kind,
    Momentum,
)
from hub.aggregation.layers import Layers
from hub.aggregation.server_step import (
    StepOfTensor,
    slots_of,
    step_product,
    step_tensor,
    velocity_rank,
)
from hub.aggregation.slices import SlicedFactors, along_components, with_components
from hub.aggregation.vectors import Vectors
from hub.rounds.controls import Controls, state_blob
from hub.rounds.server_state import ServerState, read_state
from hub.rounds.spool import Spool
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.codecs.contract import Shape
from wire.tensors import PackedFile, reading, write_packed

Server = Momentum | EntryStep | None


@dataclass(frozen=True)
class Stepped:
    """An adapter's tensors after a strategy's step, and the state that goes with them."""

    combined: Combined
    state: str | None  # sha256; None: the strategy keeps nothing


class ServerSteps:
    """A strategy's step at the hub, from blobs to blobs.

    Args:
        store: the hub's blobs.
        server: the strategy's step.
        basis: of the rule for LoRA; see `hub.aggregation.contract.Basis`.
        fixed: whether the rule keeps it in every sense (`hub.aggregation.rules.keeps_basis`), so
            that factors are stepped entry by entry, not their products.
    """

    def __init__(
        self, store: BlobStore, server: Server, basis: Basis, *, fixed: bool = False
    ) -> None:
        self._store = store
        self._server = server
        self._basis = basis
        self._fixed = fixed

    @contextmanager
    def step(
        self,
        start: GlobalAdapter,
        combined: Combined,
        shares: Mapping[Kind, float],
        before: str | None,
        controls: Controls | None = None,
    ) -> Iterator[Stepped]:
        """Give the tensors after a round's step, as long as the context lasts.

        Args:
            start: the adapter that the updates were combined onto.
            combined: the mean of the devices.
            shares: the sum of the updates' weights, of each part that was trained.
            before: sha256 of the state that goes with ``start``, None if there is none.
            controls: the control variates after the round; None: those before it.

        Raises:
            AggregationError: the strategy needs a fixed basis, and the rule's turns.
            MalformedError: a blob of the state is gone or damaged.
        """
        old = read_state(self._store, before) if before is not None else ServerState()
        parts = dict(old.parts)
        with ExitStack() as stack:
            lora, prompt, full = combined.lora, combined.prompt, combined.full
            if lora is not None and start.lora and self._moves(shares["lora"]):
                work = _Lora(
                    self._store,
                    self._server,
                    "same" if self._fixed else self._basis,
                    fixed=self._fixed,
                    start=start,
                    share=shares["lora"],
                    stack=stack,
                )
                lora = work.run(lora, parts)
            if prompt is not None and start.prompt is not None and self._moves(shares["prompt"]):
                prompt = self._vectors(start, "prompt", shares, stack).run(prompt, parts)
            if full is not None and self._moves(shares["full"]):
                full = self._vectors(start, "full", shares, stack).run(full, parts)
            after = controls or old.controls
            state = ServerState(parts=parts, control=after.common, own_controls=dict(after.own))
            kept = self._store.put(state.encode()) if state.blobs else None
            yield Stepped(Combined(lora=lora, prompt=prompt, full=full), kept)

    def _moves(self, share: float) -> bool:
        """Whether anything is to be done to a mean."""
        return self._server is not None or share != 1

    def _vectors(
        self, start: GlobalAdapter, kind: Kind, shares: Mapping[Kind, float], stack: ExitStack
    ) -> "_Vectors":
        manifest, prompt = start.manifest, kind == "prompt"
        return _Vectors(
            self._store,
            self._server,
            kind=kind,
            shapes=manifest.expected_prompt() if prompt else manifest.expected_full(),
            old=start.prompt if prompt else start.full,
            share=shares[kind],
            stack=stack,
        )


class _Vectors:
    """The step of tensors in a common basis, one at a time.

    Args:
        store: the hub's blobs.
        server: the strategy's step.
        kind: which part they are.
        shapes: of the tensors by name.
        old: packed, as they were before; None: zeros.
        share: the sum of the updates' weights.
        stack: for files, and the context in which the result is good.
    """

    def __init__(
        self,
        store: BlobStore,
        server: Server,
        *,
        kind: Kind,
        shapes: Mapping[str, Shape],
        old: Path | None,
        share: float,
        stack: ExitStack,
    ) -> None:
        self._store = store
        self._server = server
        self._kind = kind
        self._shapes = dict(shapes)
        self._old = stack.enter_context(reading(old, shapes))
        self._share = share
        self._slots = slots_of(server)
        self._stack = stack

    def run(self, mean: Mapping[str, Array], parts: dict[Kind, str]) -> Vectors:
        """Return the tensors after the step; what is kept of them goes into ``parts``."""
        store, stack, slotted = self._store, self._stack, _slotted(self._shapes, self._slots)
        new = Spool(stack.enter_context(store.draft(_nothing)), self._shapes)
        kept = Spool(stack.enter_context(store.draft(_nothing)), slotted)
        known = _known(store, parts.get(self._kind), slotted, stack)
        for name in self._shapes:
            before = _before(known, self._slots, name)
            one = step_tensor(self._old(name), mean[name], self._share, self._server, before)
            _put_tensor(new, kept, name, one)
        if slotted:
            parts[self._kind] = _keep(store, slotted, kept)
        return Vectors(self._shapes, new.__getitem__)


class _Lora:
    """The step of LoRA's factors, a layer at a time."""

    def __init__(
        self,
        store: BlobStore,
        server: Server,
        basis: Basis,
        *,
        fixed: bool,
        start: GlobalAdapter,
        share: float,
        stack: ExitStack,
    ) -> None:
        manifest = start.manifest
        self._store = store
        self._server = server
        self._fixed = fixed
        # A product is taken apart anew, into components in order of importance.
        self._basis: Basis = "new" if basis == "same" and not fixed else basis
        self._share = share
        self._stack = stack
        self._shapes = manifest.expected_lora(manifest.rank)
        self._targets = sorted(manifest.shapes)  # as they are made ahead
        self._old = stack.enter_context(SlicedFactors(manifest, start.lora))
        slots = slots_of(self._server)
        if self._fixed or not slots:
            self._kept_shapes = _slotted(self._shapes, slots)
        else:
            self._kept_shapes = {n: _of_velocity(n, s) for n, s in self._shapes.items()}
        self._slots = slots

    def run(self, mean: Layers, parts: dict[Kind, str]) -> Layers:
        """Return the layers after the step; what is kept of them goes into ``parts``."""
        store, stack = self._store, self._stack
        new = Spool(stack.enter_context(store.draft(_nothing)), self._shapes)
        kept = Spool(stack.enter_context(store.draft(_nothing)), self._kept_shapes)
        known = _known(store, parts.get("lora"), self._kept_shapes, stack)
        for target in self._targets:
            if self._fixed:
                self._step_tensors(target, mean, known, new, kept)
            else:
                self._step_product(target, mean, known, new, kept)
        if self._kept_shapes:
            parts["lora"] = _keep(store, self._kept_shapes, kept)
        return Layers(self._shapes, lambda target: _factors(new, target), self._basis)

    def _step_product(
        self, target: str, mean: Layers, known: PackedFile | None, new: Spool, kept: Spool
    ) -> None:
        if self._server is not None and not isinstance(self._server, Momentum):
            raise AggregationError(
                "the strategy treats entries one by one, but the rule's basis turns each round."
            )
        before = None if known is None else Factors(*(known.get(n) for n in _names(target)))
        old = self._old.factors(target)
        one = step_product(old, mean.factors(target), self._share, self._server, before)
        _put(new, target, one.value)
        if one.velocity is not None:
            _put(kept, target, one.velocity)

    def _step_tensors(
        self, target: str, mean: Layers, known: PackedFile | None, new: Spool, kept: Spool
    ) -> None:
        for name in _names(target):
            before = _before(known, self._slots, name)
            one = step_tensor(self._old.tensor(name), mean[name], self._share, self._server, before)
            _put_tensor(new, kept, name, one)


def _known(
    store: BlobStore, sha256: str | None, shapes: Mapping[str, Shape], stack: ExitStack
) -> PackedFile | None:
    """Return what was kept of a part, open until the stack is closed."""
    if not shapes or sha256 is None:
        return None
    return stack.enter_context(PackedFile.open(state_blob(store, sha256), shapes))


def _keep(store: BlobStore, shapes: Mapping[str, Shape], tensors: Spool) -> str:
    """Store what is kept of a part; return its sha256."""
    raw = by_name("raw")
    with store.draft(
        lambda file: write_packed(file, shapes, tensors.__getitem__, raw, seed=0)
    ) as path:
        return store.put_file(path)


def _before(known: PackedFile | None, slots: tuple[str, ...], name: str) -> dict[str, Array] | None:
    return None if known is None else {slot: known.get(f"{slot}.{name}") for slot in slots}


def _slotted(shapes: Mapping[str, Shape], slots: tuple[str, ...]) -> dict[str, Shape]:
    return {f"{slot}.{name}": shape for slot in slots for name, shape in shapes.items()}


def _names(target: str) -> tuple[str, str]:
    return f"{target}.lora_A", f"{target}.lora_B"


def _of_velocity(name: str, shape: Shape) -> Shape:
    """Return the shape of what is kept of a factor whose basis turns."""
    return with_components(name, shape, velocity_rank(shape[along_components(name)]))


def _factors(spool: Spool, target: str) -> Factors:
    a, b = _names(target)
    return Factors(spool[a], spool[b])


def _put(spool: Spool, target: str, factors: Factors) -> None:
    a, b = _names(target)
    spool.put(a, factors.a)
    spool.put(b, factors.b)


def _put_tensor(new: Spool, kept: Spool, name: str, one: StepOfTensor) -> None:
    new.put(name, one.value)
    for slot, tensor in one.kept.items():
        kept.put(f"{slot}.{name}", tensor)


def _nothing(_: object) -> None:
    """Leave a file empty."""
