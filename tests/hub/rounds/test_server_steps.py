"""A strategy's step and its state, from blobs to blobs."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hub.aggregation.combine import Combined
from hub.aggregation.contract import (
    AggregationError,
    Array,
    Factors,
    GlobalAdapter,
    Momentum,
    Slice,
)
from hub.aggregation.layers import Layers
from hub.aggregation.strategies import by_name
from hub.rounds.server_state import read_state, state_blobs
from hub.rounds.server_steps import ServerSteps
from wire.blobs import BlobStore
from wire.codecs import by_name as codec
from wire.errors import MalformedError
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import PackedFile, pack

HALF = Momentum(decay=0.5, fresh=0.0, carried=1.0)
WHOLE = {"lora": 1.0, "prompt": 1.0}
Tensors = Mapping[str, Array]


def manifest(
    shapes: Mapping[str, tuple[int, int]], rank: int = 2, tokens: int = 1
) -> AdapterManifest:
    return AdapterManifest(
        job="j",
        round=0,
        base="0" * 64,
        rank=rank,
        tokens=tokens,
        shapes={name: TargetShape(outputs=o, inputs=i) for name, (o, i) in shapes.items()},
        hidden_size=3,
        parts=[],
    )


class Hub:
    """Its blobs, and an adapter of a layer "q" and a prompt of one token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = BlobStore(folder / "blobs")
        self.manifest = manifest({"q": (3, 3)})

    def adapter(self, lora: Tensors, prompt: Tensors) -> GlobalAdapter:
        paths = []
        for name, tensors in (("lora", lora), ("prompt", prompt)):
            path = self.folder / name
            path.write_bytes(pack(tensors, codec("raw"), 0))
            paths.append(path)
        return GlobalAdapter(self.manifest, (Slice(paths[0], self.manifest.rank),), paths[1])

    def kept(self, state: str | None) -> dict[str, Array]:
        """Return all that is kept, read from disk."""
        assert state is not None
        found: dict[str, Array] = {}
        shapes = {
            "lora": self.manifest.expected_lora(4),
            "prompt": {"velocity.prompt": (1, 3)},
        }
        for part, sha256 in read_state(self.store, state).parts.items():
            path = self.store.path(sha256)
            assert path is not None
            with PackedFile.open(path, shapes[part]) as packed:
                found |= {name: packed.get(name) for name in packed.names()}
        return found


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def diagonal(first: float, second: float) -> dict[str, Array]:
    a = np.eye(3, dtype=np.float32)[:2]
    return {"q.lora_A": a, "q.lora_B": a.T * np.float32([first, second])}


def prompt(*numbers: float) -> dict[str, Array]:
    return {"prompt": np.array([numbers], dtype=np.float32)}


def layers(tensors: Tensors) -> Layers:
    return Layers(
        {name: one.shape for name, one in tensors.items()},
        lambda target: Factors(tensors[f"{target}.lora_A"], tensors[f"{target}.lora_B"]),
    )


def product(tensors: Tensors, target: str = "q") -> Array:
    whole: Array = tensors[f"{target}.lora_B"] @ tensors[f"{target}.lora_A"]
    return whole


def test_two_rounds_of_both_parts_by_hand(hub: Hub) -> None:
    """v ← v/2 + Δ, w ← w + v. Layer: Δ = (1, 0), then (0, 2); prompt: (1, 0, 0), then (0, 0, 4)."""
    steps = ServerSteps(hub.store, HALF, "turned")
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=prompt(1, 0, 0))
    with steps.step(start, mean, WHOLE, None) as one:
        assert one.combined.lora is not None
        np.testing.assert_allclose(product(one.combined.lora), np.diag([2, 2, 0]), atol=1e-6)
        assert one.combined.prompt is not None
        assert one.combined.prompt["prompt"].tolist() == [[1, 0, 0]]
        first = one.state
    start = hub.adapter(diagonal(2, 2), prompt(1, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 4)), prompt=prompt(1, 0, 4))
    # A hub that starts anew has the blobs and the log, nothing else.
    steps = ServerSteps(BlobStore(hub.store.folder), HALF, "turned")
    with steps.step(start, mean, WHOLE, first) as one:
        assert one.combined.lora is not None
        np.testing.assert_allclose(product(one.combined.lora), np.diag([2.5, 4, 0]), atol=1e-6)
        assert one.combined.prompt is not None
        np.testing.assert_allclose(one.combined.prompt["prompt"], [[1.5, 0, 4]])
        second = one.state
    kept = hub.kept(second)
    np.testing.assert_allclose(product(kept), np.diag([0.5, 2, 0]), atol=1e-6)
    np.testing.assert_allclose(kept["velocity.prompt"], [[0.5, 0, 4]])
    # The state before is as it was: a retried round begins from it.
    np.testing.assert_allclose(hub.kept(first)["velocity.prompt"], [[1, 0, 0]])


def test_the_same_round_twice_gives_the_same_state(hub: Hub) -> None:
    steps = ServerSteps(hub.store, HALF, "turned")
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 5)), prompt=prompt(1, 0, 0))
    with steps.step(start, mean, WHOLE, None) as one:
        first = one.state
    with steps.step(start, mean, WHOLE, first) as one:
        second = one.state
    with steps.step(start, mean, WHOLE, None) as one:
        assert one.state == first
    with steps.step(start, mean, WHOLE, first) as one:
        assert one.state == second != first


def test_a_part_that_nobody_trained_keeps_its_state(hub: Hub) -> None:
    steps = ServerSteps(hub.store, HALF, "turned")
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=prompt(1, 0, 0))
    with steps.step(start, mean, WHOLE, None) as one:
        first = one.state
    alone = Combined(lora=None, prompt=prompt(3, 0, 0))
    with steps.step(start, alone, {"prompt": 1.0}, first) as one:
        assert one.combined.lora is None
        second = one.state
    before, after = hub.kept(first), hub.kept(second)
    assert product(before).tolist() == product(after).tolist()
    np.testing.assert_allclose(after["velocity.prompt"], [[3.5, 0, 0]])


def test_a_plain_mean_passes_through_and_nothing_is_kept(hub: Hub) -> None:
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=prompt(1, 0, 0))
    with ServerSteps(hub.store, None, "turned").step(start, mean, WHOLE, None) as one:
        assert one.combined.lora is mean.lora
        assert one.combined.prompt is mean.prompt
        assert one.state is None
    assert hub.store.all() == []


def test_a_share_of_the_mean_needs_no_state(hub: Hub) -> None:
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(3, 2)), prompt=prompt(1, 0, 2))
    shares = {"lora": 0.5, "prompt": 0.25}
    with ServerSteps(hub.store, None, "turned").step(start, mean, shares, None) as one:
        assert one.combined.lora is not None
        assert one.combined.prompt is not None
        np.testing.assert_allclose(product(one.combined.lora), np.diag([2, 2, 0]), atol=1e-6)
        np.testing.assert_allclose(one.combined.prompt["prompt"], [[0.25, 0, 0.5]])
        assert one.state is None


def test_a_state_names_the_blobs_that_must_stay(hub: Hub) -> None:
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=prompt(1, 0, 0))
    with ServerSteps(hub.store, HALF, "turned").step(start, mean, WHOLE, None) as one:
        assert one.state is not None
        assert state_blobs(hub.store, one.state) == set(hub.store.all())
    hub.store.delete(one.state)
    assert state_blobs(hub.store, one.state) == {one.state}


def test_a_state_that_is_gone_or_broken_is_said_so(hub: Hub) -> None:
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=None, prompt=prompt(1, 0, 0))
    steps = ServerSteps(hub.store, HALF, "turned")
    with (
        pytest.raises(MalformedError, match="state is gone"),
        steps.step(start, mean, WHOLE, "a" * 64),
    ):
        pass
    broken = hub.store.put(b"{")
    with (
        pytest.raises(MalformedError, match="no strategy's state"),
        steps.step(start, mean, WHOLE, broken),
    ):
        pass


def test_no_file_is_left_behind(hub: Hub) -> None:
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=None)
    with ServerSteps(hub.store, HALF, "turned").step(start, mean, WHOLE, None):
        assert any((hub.store.folder / "tmp").iterdir())
    assert not any((hub.store.folder / "tmp").iterdir())


def test_memory_does_not_grow_with_the_layers(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    rng = np.random.default_rng(1)

    def peak_bytes(count: int) -> int:
        shapes = manifest({f"l{index}": (96, 96) for index in range(count)}, rank=16, tokens=0)
        path = tmp_path / f"{count}"
        expected = shapes.expected_lora(16)
        path.write_bytes(
            pack({n: rng.normal(size=s).astype("f4") for n, s in expected.items()}, codec("raw"), 0)
        )
        start = GlobalAdapter(shapes, (Slice(path, 16),), None)
        a, b = (rng.normal(size=s).astype("f4") for s in ((16, 96), (96, 16)))
        mean = Combined(lora=Layers(expected, lambda _: Factors(a, b)), prompt=None)
        state = None
        steps = ServerSteps(store, HALF, "turned")
        tracemalloc.start()
        try:
            for _ in range(2):
                with steps.step(start, mean, WHOLE, state) as one:
                    state = one.state
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(1)
    assert peak_bytes(24) < 1.5 * peak_bytes(4)


def test_what_treats_entries_one_by_one_is_refused_where_the_basis_turns(hub: Hub) -> None:
    server = Entries()
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(2, 2)), prompt=None)
    with (
        pytest.raises(AggregationError, match="turns each round"),
        ServerSteps(hub.store, server, "turned").step(start, mean, WHOLE, None),
    ):
        pass


def test_in_a_fixed_basis_factors_are_stepped_entry_by_entry(hub: Hub) -> None:
    """Signs of Δ: B moves by ±1 where its mean differs, A where it doesn't stays."""
    start = hub.adapter(diagonal(1, 2), prompt(0, 0, 0))
    mean = Combined(lora=layers(diagonal(9, -5)), prompt=None)
    steps = ServerSteps(hub.store, Entries(), "same", fixed=True)
    state = None
    for count in (1, 2):
        with steps.step(start, mean, WHOLE, state) as one:
            assert one.combined.lora is not None
            assert one.combined.lora.basis == "same"
            assert (
                dict(one.combined.lora)["q.lora_A"].tolist() == diagonal(1, 2)["q.lora_A"].tolist()
            )
            expected = diagonal(1 + count, 2 - count)["q.lora_B"]
            assert dict(one.combined.lora)["q.lora_B"].tolist() == expected.tolist()
            state = one.state


class Entries:
    """Moves each entry by its difference's sign, times the number of rounds."""

    slots = ("count",)

    def step(self, difference, before):  # type: ignore[no-untyped-def]
        count = (np.zeros_like(difference) if before is None else before["count"]) + 1
        return np.sign(difference) * count, {"count": count}


def test_a_strategys_own_step_is_one_of_these() -> None:
    assert by_name("fedavgm").server == Momentum(decay=0.9, fresh=0.0, carried=1.0)
