"""Whole updates on disk: hand-worked rounds, indifference to order, bounded memory."""

import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hub.aggregation.combine import combine
from hub.aggregation.contract import (
    AggregationError,
    Array,
    Basis,
    Contribution,
    Factors,
    FactorsUpdate,
    GlobalAdapter,
    ProductRule,
    Slice,
)
from hub.aggregation.rules import factor_rule, product_rule
from hub.aggregation.slices import SlicedFactors, cut
from wire.errors import MalformedError
from wire.manifest import AdapterManifest
from wire.trained_factors import Rest, Trains

STACK, MEAN = product_rule("stack_svd"), factor_rule("mean")
E = np.eye(3, dtype=np.float32)
MakeManifest = Callable[..., AdapterManifest]
Write = Callable[..., Path]


def array(rows: object) -> Array:
    return np.array(rows, dtype=np.float32)


class Outcome(NamedTuple):
    """All that was combined, read."""

    lora: dict[str, Array] | None
    prompt: dict[str, Array] | None


def run(
    current: GlobalAdapter, contributions: list[Contribution], rule: ProductRule = STACK
) -> Outcome:
    with combine(current, contributions, rule, MEAN) as found:
        return Outcome(None if found.lora is None else dict(found.lora), found.prompt)


@pytest.fixture
def current(make_manifest: MakeManifest, write: Write) -> GlobalAdapter:
    """Two layers of 3 × 3: "q" is diag(4, 2, 0), "k" is zero. A prompt (1, 1, 1)."""
    manifest = make_manifest(rank=2, shapes={"q": (3, 3), "k": (3, 3)}, tokens=1)
    lora = {
        "q.lora_A": E[:2],
        "q.lora_B": array([[4, 0], [0, 2], [0, 0]]),
        "k.lora_A": E[:2],
        "k.lora_B": array([[0, 0]] * 3),
    }
    prompt = write("prompt", {"prompt": array([[1, 1, 1]])})
    return GlobalAdapter(manifest, (Slice(write("global", lora), 2),), prompt)


def delta(rank: int, q_b: object, k_b: object) -> dict[str, Array]:
    """An update that moved only the B of both layers; (3, rank) each."""
    zero = np.zeros((rank, 3), np.float32)
    return {"q.lora_A": zero, "q.lora_B": array(q_b), "k.lora_A": zero, "k.lora_B": array(k_b)}


def product(combined: Outcome, target: str) -> Array:
    assert combined.lora is not None
    whole: Array = combined.lora[f"{target}.lora_B"] @ combined.lora[f"{target}.lora_A"]
    return whole


def test_a_round_of_mixed_ranks_and_prompts(current: GlobalAdapter, write: Write) -> None:
    # q: (diag(6, 2, 0) + 3 diag(4, 4, 0)) / 4; k: (diag(8, 0, 0) + 3 · 0) / 4.
    x = write("x", delta(1, [[2], [0], [0]], [[8], [0], [0]]))
    y = write("y", delta(2, [[0, 0], [0, 2], [0, 0]], [[0, 0]] * 3))
    # prompt: (1, 1, 1) + (1 · (3, 0, 0) + 2 · (0, 3, 0)) / 3
    p = write("p", {"prompt": array([[3, 0, 0]])})
    q = write("q", {"prompt": array([[0, 3, 0]])})
    combined = run(
        current,
        [
            Contribution("dev-y", "lora", 3, y, rank=2),
            Contribution("dev-q", "prompt", 2, q),
            Contribution("dev-x", "lora", 1, x, rank=1),
            Contribution("dev-p", "prompt", 1, p),
        ],
    )
    np.testing.assert_allclose(product(combined, "q"), np.diag([4.5, 3.5, 0]), atol=1e-6)
    np.testing.assert_allclose(product(combined, "k"), np.diag([2, 0, 0]), atol=1e-6)
    assert combined.prompt is not None
    np.testing.assert_allclose(combined.prompt["prompt"], [[2, 3, 1]], atol=1e-6)


def test_a_late_update_is_measured_from_its_own_start(current: GlobalAdapter, write: Write) -> None:
    # It went from diag(10, ...) to diag(13, ...), so it adds 3 to the current 4.
    old = delta(2, [[10, 0], [0, 7], [0, 0]], [[0, 0]] * 3)
    old["q.lora_A"] = old["k.lora_A"] = E[:2]
    late = write("late", delta(1, [[3], [0], [0]], [[0]] * 3))
    one = Contribution("dev", "lora", 1, late, rank=1, start=(Slice(write("old", old), 2),))
    assert one.stale
    np.testing.assert_allclose(product(run(current, [one]), "q"), np.diag([7, 2, 0]), atol=1e-5)


def test_slices_are_combined_as_the_whole_that_they_make(
    current: GlobalAdapter, write: Write
) -> None:
    slices = []
    with SlicedFactors(current.manifest, current.lora) as whole:
        for k in range(2):
            names = current.manifest.expected_lora(2)
            part = {name: cut(name, whole.tensor(name), k, k + 1) for name in names}
            slices.append(Slice(write(f"slice-{k}", part), 1))
    sliced = replace(current, lora=tuple(slices))
    one = Contribution("dev", "lora", 1, write("x", delta(1, [[1]] * 3, [[0]] * 3)), rank=1)
    meant, found = run(current, [one]).lora, run(sliced, [one]).lora
    assert meant is not None
    assert found is not None
    for name, tensor in meant.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_part_without_updates_stays(current: GlobalAdapter, write: Write) -> None:
    prompt = Contribution("dev", "prompt", 1, write("p", {"prompt": array([[1, 0, 0]])}))
    lora = Contribution("dev", "lora", 1, write("x", delta(1, [[1]] * 3, [[0]] * 3)), rank=1)
    assert run(current, [prompt]).lora is None
    assert run(current, [lora]).prompt is None
    assert run(current, []) == Outcome(lora=None, prompt=None)


def test_the_result_has_the_tensors_of_the_manifest(current: GlobalAdapter, write: Write) -> None:
    one = Contribution("dev", "lora", 1, write("x", delta(1, [[1]] * 3, [[0]] * 3)), rank=1)
    combined = run(current, [one]).lora
    assert combined is not None
    shapes = {name: tensor.shape for name, tensor in combined.items()}
    assert shapes == current.manifest.expected_lora(2)


def test_a_core_and_factors_fold_into_one_adapter(current: GlobalAdapter, write: Write) -> None:
    # "q" has B = (4 0; 0 2; 0 0), so U = √3 I and a core's change D moves B by √3 D.
    core = np.array([[1, 0], [0, 3]]) / np.sqrt(3)
    cores = {f"{target}.core": array(core * (target == "q")) for target in "qk"}
    x = Contribution("x", "lora", 1, write("x", cores), rank=2, trains="core")
    y = Contribution("y", "lora", 1, write("y", delta(1, [[2], [0], [0]], [[0]] * 3)), rank=1)
    # (diag(5, 5, 0) + diag(6, 2, 0)) / 2
    np.testing.assert_allclose(
        product(run(current, [x, y]), "q"), np.diag([5.5, 3.5, 0]), atol=1e-5
    )
    # A late core is read between the factors that it started from.
    older = write("older", {"q.lora_A": E[1:], "q.lora_B": array([[0, 0], [7, 0], [0, 7]]),
                            "k.lora_A": E[:2], "k.lora_B": array([[0, 0]] * 3)})  # fmt: skip
    moved = cores | {"q.core": array(np.diag([-2, 3]) / np.sqrt(3))}
    late = replace(x, update=write("late", moved), start=(Slice(older, 2),))
    np.testing.assert_allclose(product(run(current, [late]), "q"), np.diag([4, 0, 3]), atol=1e-5)


class Recorder:
    """A rule that notes the weights of each layer in the order in which it sees them."""

    name = "recorder"
    rest: Rest = "frozen"
    cores = False

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def basis(self, round_: int) -> Basis:
        return "same"

    def trains(self, round_: int) -> Trains:
        return "both"

    def combine(self, current: Factors, updates: Iterable[FactorsUpdate]) -> Factors:
        self.seen.append([update.weight for update in updates])
        return current


def test_a_rule_sees_each_layer_in_order_of_device_ids(
    current: GlobalAdapter, write: Write
) -> None:
    blob = write("x", delta(1, [[1]] * 3, [[0]] * 3))
    arrived = [Contribution(f"dev-{k}", "lora", k, blob, rank=1) for k in (3, 1, 2)]
    rule = Recorder()
    run(current, arrived, rule)
    assert rule.seen == [[1, 2, 3], [1, 2, 3]]


def test_a_device_counts_once(current: GlobalAdapter, write: Write) -> None:
    one = Contribution("dev", "lora", 1, write("x", delta(1, [[1]] * 3, [[0]] * 3)), rank=1)
    other = replace(one, device="other")
    with pytest.raises(AggregationError, match="dev contributed twice"):
        run(current, [one, other, replace(one, weight=2)])


def test_a_part_that_the_adapter_lacks_is_refused(current: GlobalAdapter, write: Write) -> None:
    bare = GlobalAdapter(current.manifest, (), None)
    blob = write("x", {"prompt": array([[1, 0, 0]])})
    with pytest.raises(AggregationError, match="no LoRA part"):
        run(bare, [Contribution("dev", "lora", 1, blob, rank=1)])
    with pytest.raises(AggregationError, match="no prompt"):
        run(bare, [Contribution("dev", "prompt", 1, blob)])


def test_a_blob_of_another_rank_is_refused(current: GlobalAdapter, write: Write) -> None:
    one = Contribution("dev", "lora", 1, write("x", delta(1, [[1]] * 3, [[0]] * 3)), rank=2)
    with pytest.raises(MalformedError):
        run(current, [one])


def test_more_updates_than_files_may_stay_open(
    current: GlobalAdapter, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.aggregation.combine.KEPT_OPEN", 2)
    # B of q moves by 0..4 along e1, of k by 1 each: means 4 + 2 and 1.
    contributions = [
        Contribution(
            f"dev-{k}", "lora", 1, write(f"u{k}", delta(1, [[k], [0], [0]], [[1], [0], [0]])),
            rank=1,
        )
        for k in range(5)
    ]  # fmt: skip
    combined = run(current, contributions)
    np.testing.assert_allclose(product(combined, "q"), np.diag([6, 2, 0]), atol=1e-6)
    np.testing.assert_allclose(product(combined, "k"), np.diag([1, 0, 0]), atol=1e-6)


def test_the_number_of_cores_changes_no_bit(
    make_manifest: MakeManifest, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(rank=4, shapes={f"layer.{i}": (12, 20) for i in range(12)})
    rng = np.random.default_rng(5)

    def draw(name: str) -> Path:
        expected = manifest.expected_lora(4)
        return write(name, {key: array(rng.normal(size=shape)) for key, shape in expected.items()})

    current = GlobalAdapter(manifest, (Slice(draw("global"), 4),), None)
    updates = [Contribution(f"dev-{i}", "lora", 1 + i, draw(f"u{i}"), rank=4) for i in range(3)]
    outcomes = []
    for cores in (1, 4):
        monkeypatch.setattr("hub.aggregation.ahead.os.cpu_count", lambda cores=cores: cores)
        outcomes.append(run(current, updates).lora)
    one, four = outcomes
    assert one is not None and four is not None
    assert all((one[name] == four[name]).all() for name in one)


def test_memory_does_not_grow_with_the_number_of_updates(
    make_manifest: MakeManifest, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On several cores the peak depends on which layers' peaks fall together.
    monkeypatch.setattr("hub.aggregation.ahead.os.cpu_count", lambda: 1)
    out, width, rank, layers = 192, 256, 64, 4
    shapes = {f"layer.{i}": (out, width) for i in range(layers)}
    manifest = make_manifest(rank=rank, shapes=shapes)
    rng = np.random.default_rng(5)

    def draw() -> dict[str, Array]:
        expected = manifest.expected_lora(rank)
        return {name: array(rng.normal(size=shape)) for name, shape in expected.items()}

    current = GlobalAdapter(manifest, (Slice(write("global", draw()), rank),), None)
    updates = [
        Contribution(f"dev-{i:02}", "lora", 1, write(f"u{i}", draw()), rank=rank) for i in range(24)
    ]
    run(current, updates[:1])  # what is loaded once

    def peak_bytes(contributions: list[Contribution]) -> int:
        tracemalloc.start()
        try:
            run(current, contributions)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak_bytes(updates[:4]), peak_bytes(updates)
    assert many < 1.2 * few
    # The twenty updates more stayed on disk: at most their headers and one read buffer each.
    assert many - few < 0.05 * 20 * layers * rank * (out + width) * 4
