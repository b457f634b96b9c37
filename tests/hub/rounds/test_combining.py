"""Updates as they rest on disk become adapters, under each strategy: two rounds by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.aggregation.contract import Trained
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.strategies import configured
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.combining import SpoiledUpdateError, combine_round
from hub.rounds.events import Combined
from hub.rounds.server_state import read_state
from hub.rounds.state import Update
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.manifest import AdapterManifest, TargetShape
from wire.messages import TrainMetrics
from wire.tensors import PackedFile, pack

METRICS = TrainMetrics(steps=1, tokens=1, loss_first=1.0, loss_last=1.0, seconds_per_step=1.0)
Number = float | int


class Job:
    """A layer "q" of 3 × 3 with factors of rank 2, a prompt of three numbers; all exact."""

    def __init__(
        self, folder: Path, strategy: str, rule: str = "stack_svd", **settings: float
    ) -> None:
        self.rule = rule
        self.store = BlobStore(folder)
        self.adapters = Adapters(self.store)
        self.strategy = configured(strategy, settings)
        start = AdapterManifest(
            job="j",
            round=0,
            base="a" * 64,
            rank=2,
            tokens=1,
            shapes={"q": TargetShape(inputs=3, outputs=3)},
            hidden_size=3,
            parts=[],
        )
        self.now = self.adapters.begin(start, 7, "raw")
        self.before = self.now
        self.round = 0
        self.state: str | None = None
        self.last: Combined | None = None

    def update(
        self, device: str, tensors: dict[str, Any], *, late: int = 0, **facts: int
    ) -> Update:
        """Return an update of a prompt, or of factors, that came late by some rounds."""
        role: Any = "prompt" if "prompt" in tensors else "lora"
        arrays = {name: np.array(value, dtype=np.float32) for name, value in tensors.items()}
        values = {"tokens": 100, "steps": 1} | facts
        return Update(
            device=device,
            round=self.round + 1 - late,
            start=self.before if late else self.now,
            sha256=self.store.put(pack(arrays, by_name("raw"), 0)),
            size_bytes=1,
            role=role,
            rank=2 if role == "lora" else 0,
            train=METRICS,
            download_s=0.0,
            upload_s=0.0,
            peak_bytes=0,
            **values,
        )

    def combine(self, *updates: Update) -> Combined:
        """Combine the next round; nothing is taken note of."""
        return combine_round(
            self.store,
            self.adapters,
            Combine(round=self.round + 1, start=self.now, state=self.state, updates=updates),
            rule=self.rule,
            strategy=self.strategy,
            trained=lambda one, round_: Trained(
                one.device, one.tokens, one.staleness(round_), steps=one.steps, lr=0.5
            ),
            codec="raw",
        )

    def play(self, *updates: Update) -> "Job":
        """Combine the next round, and go on from there."""
        self.last = self.combine(*updates)
        self.before, self.now = self.now, self.last.manifest
        self.state = self.last.state
        self.round += 1
        return self

    @property
    def prompt(self) -> np.ndarray:
        adapter = self.adapters.load(self.now)
        assert adapter.prompt is not None
        with PackedFile.open(adapter.prompt, adapter.manifest.expected_prompt()) as packed:
            return packed.get("prompt")[0]

    @property
    def controls(self) -> dict[str, list[float]]:
        """Return each device's control variate, and their mean under no name."""
        assert self.state is not None
        controls = read_state(self.store, self.state).controls
        assert controls.common is not None
        found = {}
        for device, sha256 in {**controls.own, "": controls.common}.items():
            path = self.store.path(sha256)
            assert path is not None
            with PackedFile.open(path, {"prompt": (1, 3)}) as packed:
                found[device] = packed.get("prompt")[0].tolist()
        return found

    @property
    def product(self) -> np.ndarray:
        a, b = self.factors
        return b @ a

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        adapter = self.adapters.load(self.now)
        with SlicedFactors(adapter.manifest, adapter.lora) as opened:
            found = opened.factors("q")
            return found.a, found.b

    def towards(self, matrix: Any) -> dict[str, np.ndarray]:
        """Return the update of a device whose layer becomes a given matrix of rank 2 at most."""
        a, b = self.factors
        u, s, vt = np.linalg.svd(np.array(matrix, dtype=np.float64))
        return {"q.lora_A": vt[:2] - a, "q.lora_B": u[:, :2] * s[:2] - b}


Begin = Callable[..., Job]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    return lambda strategy, *rule, **settings: Job(tmp_path / strategy, strategy, *rule, **settings)


def test_fedavgm_carries_products_and_prompts_over(begin: Begin) -> None:
    job = begin("fedavgm", momentum=0.5)
    start = job.prompt
    # Means: diag(2, 0, 0) and prompt + (1, 0, 2).
    job.play(
        job.update("a", job.towards(np.diag([1, 0, 0]))),
        job.update("b", job.towards(np.diag([3, 0, 0]))),
        job.update("c", {"prompt": [[1, 0, 2]]}),
    )
    np.testing.assert_allclose(job.product, np.diag([2, 0, 0]), atol=1e-5)
    np.testing.assert_allclose(job.prompt - start, [1, 0, 2], atol=1e-6)
    # Δ = diag(0, 4, 0), v = diag(1, 4, 0); prompt: Δ = (1, 1, 0), v = (1.5, 1, 1).
    job.play(
        job.update("a", job.towards(np.diag([2, 4, 0]))),
        job.update("c", {"prompt": [[1, 1, 0]]}),
    )
    np.testing.assert_allclose(job.product, np.diag([3, 4, 0]), atol=1e-5)
    np.testing.assert_allclose(job.prompt - start, [2.5, 1, 3], atol=1e-6)


def test_diloco_looks_ahead_on_products(begin: Begin) -> None:
    job = begin("diloco", lr=0.5, momentum=0.5)
    # Δ = v = diag(4, 0, 0): 0.5 (1 + 0.5) Δ = diag(3, 0, 0).
    job.play(job.update("a", job.towards(np.diag([4, 0, 0]))))
    np.testing.assert_allclose(job.product, np.diag([3, 0, 0]), atol=1e-5)
    # Δ = diag(-3, 8, 0), v = diag(-1, 8, 0): diag(3, 0, 0) + 0.5 (Δ + v / 2).
    job.play(job.update("a", job.towards(np.diag([0, 8, 0]))))
    np.testing.assert_allclose(job.product, np.diag([1.25, 6, 0]), atol=1e-5)


def test_fednova_weighs_by_steps(begin: Begin) -> None:
    job = begin("fednova")
    # p = 1/2, steps 1 and 3: weights 1 and 1/3.
    job.play(
        job.update("a", job.towards(np.diag([3, 0, 0])), steps=1),
        job.update("b", job.towards(np.diag([0, 3, 0])), steps=3),
    )
    np.testing.assert_allclose(job.product, np.diag([3, 1, 0]), atol=1e-5)
    assert job.last is not None
    assert job.last.record == pytest.approx({"weight.a": 1.0, "weight.b": 1 / 3})
    assert job.last.state is None


def test_steps_of_a_prompt_and_of_factors_are_not_compared(begin: Begin) -> None:
    job = begin("fednova")
    start = job.prompt
    job.play(
        job.update("a", job.towards(np.diag([2, 0, 0])), steps=7),
        job.update("b", {"prompt": [[1, 2, 3]]}, steps=3),
    )
    np.testing.assert_allclose(job.product, np.diag([2, 0, 0]), atol=1e-5)
    np.testing.assert_allclose(job.prompt - start, [1, 2, 3], atol=1e-6)


def test_fedbuff_damps_a_late_update_and_fedavg_spreads_its_share(begin: Begin) -> None:
    for name, moved in (("fedbuff", [1, 0.25, 0]), ("fedavg", [4 / 3, 1 / 3, 0])):
        job = begin(name)
        start = job.prompt
        for _ in range(3):
            job.play(job.update("a", {"prompt": [[0, 0, 0]]}))
        # Three rounds late counts half, and so a quarter of 1, or a third.
        job.play(
            job.update("a", {"prompt": [[2, 0, 0]]}),
            job.update("b", {"prompt": [[0, 1, 0]]}, late=3),
        )
        np.testing.assert_allclose(job.prompt - start, moved, atol=1e-6)


def test_fedprox_averages(begin: Begin) -> None:
    job = begin("fedprox")
    start = job.prompt
    job.play(
        job.update("a", {"prompt": [[4, 0, 0]]}, tokens=300),
        job.update("b", {"prompt": [[0, 4, 0]]}, tokens=100),
    )
    np.testing.assert_allclose(job.prompt - start, [3, 1, 0], atol=1e-6)


def test_fedadam_steps_prompts(begin: Begin) -> None:
    job = begin("fedadam", lr=0.5, beta1=0.5, beta2=0.5, tau=1.0)
    start = job.prompt
    # Δ = (2, 0, -4): m = Δ / 2, v = 0.5 + Δ² / 2 = (2.5, 0.5, 8.5).
    job.play(job.update("a", {"prompt": [[4, 0, -4]]}), job.update("b", {"prompt": [[0, 0, -4]]}))
    first = 0.5 * np.array([1, 0, -2]) / (np.sqrt([2.5, 0.5, 8.5]) + 1)
    np.testing.assert_allclose(job.prompt - start, first, atol=1e-6)
    # Δ = (0, 1, 0): m = (0.5, 0.5, -1), v = (1.25, 0.75, 4.25).
    job.play(job.update("a", {"prompt": [[0, 1, 0]]}))
    second = 0.5 * np.array([0.5, 0.5, -1]) / (np.sqrt([1.25, 0.75, 4.25]) + 1)
    np.testing.assert_allclose(job.prompt - start, first + second, atol=1e-6)


def test_fedadam_steps_factors_whose_basis_stays(begin: Begin) -> None:
    """Under freeze_a only B is trained and sent; its entries mean the same in every round."""
    job = begin("fedadam", "freeze_a", lr=0.5, beta1=0.5, beta2=0.5, tau=1.0)
    a, _ = job.factors
    # Δ = 2 in one entry, -4 in another: m = Δ / 2, v = 0.5 + Δ² / 2.
    job.play(job.update("a", {"q.lora_B": [[2, 0], [0, 0], [0, -4]]}))
    first = np.zeros((3, 2))
    first[0, 0], first[2, 1] = 0.5 * 1 / (2.5**0.5 + 1), 0.5 * -2 / (8.5**0.5 + 1)
    np.testing.assert_allclose(job.factors[1], first, atol=1e-6)
    # Δ = 0 and 1: m = 0.5, -0.5, v = 1.25, 4.75.
    job.play(job.update("a", {"q.lora_B": [[0, 0], [0, 0], [0, 1]]}))
    first[0, 0] += 0.5 * 0.5 / (1.25**0.5 + 1)
    first[2, 1] += 0.5 * -0.5 / (4.75**0.5 + 1)
    np.testing.assert_allclose(job.factors[1], first, atol=1e-6)
    np.testing.assert_allclose(job.factors[0], a, atol=1e-7)


@pytest.mark.parametrize("rule", ["fedit", "flexlora", "raflora", "hetlora"])
def test_momentum_acts_on_the_product_under_rules_that_train_both_factors(
    begin: Begin, rule: str
) -> None:
    job = begin("fedavgm", rule, momentum=0.5)
    for round_, expected in ((1, [4, 0]), (2, [6, 8])):
        # From diag(0, 0) to diag(4, 0), then to diag(4, 8), with half of the way before on top.
        whole = job.towards(np.diag([4, 8 * (round_ - 1), 0]))
        job.play(job.update("a", whole))
        np.testing.assert_allclose(job.product, np.diag([*expected, 0]), atol=1e-4)


def test_scaffold_keeps_a_control_variate_of_each_device(begin: Begin) -> None:
    """K η = 1: c_i⁺ = c_i − c − Δ. Late updates move the prompt, but not these."""
    job = begin("scaffold")
    start = job.prompt
    job.play(
        job.update("a", {"prompt": [[-2, 0, 0]]}, steps=2),
        job.update("b", {"prompt": [[0, -4, 0]]}, steps=2),
    )
    np.testing.assert_allclose(job.prompt - start, [-1, -2, 0], atol=1e-6)
    assert job.controls == {"": [1, 2, 0], "a": [2, 0, 0], "b": [0, 4, 0]}
    job.play(
        job.update("a", {"prompt": [[-1, 1, -2]]}, steps=2),
        job.update("b", {"prompt": [[5, 5, 5]]}, steps=2, late=3),
    )
    # Shares 2/3 and 1/3.
    moved = [-1 + 1, -2 + 7 / 3, -4 / 3 + 5 / 3]
    np.testing.assert_allclose(job.prompt - start, moved, atol=1e-6)
    assert job.controls == {"": [1, 0.5, 1], "a": [2, -3, 2], "b": [0, 4, 0]}


def test_a_round_that_is_combined_again_comes_out_the_same(begin: Begin) -> None:
    job = begin("fedavgm")
    job.play(job.update("a", job.towards(np.diag([2, 1, 0]))))
    updates = [
        job.update("a", job.towards(np.diag([3, 0, 0]))),
        job.update("b", job.towards(np.diag([0, 2, 0]))),
        job.update("c", {"prompt": [[1, 0, 2]]}),
    ]
    first = job.combine(*updates)
    job.store, job.adapters = BlobStore(job.store.folder), Adapters(job.store)  # a new process
    assert job.combine(*updates) == first
    # Without one of the devices the round begins from the same state, too.
    assert job.combine(*updates[:1]).state != first.state
    assert job.combine(*updates) == first


def test_an_update_whose_blob_is_gone_is_named(begin: Begin) -> None:
    job = begin("fedavgm")
    one = job.update("a", {"prompt": [[1, 0, 2]]})
    job.store.delete(one.sha256)
    with pytest.raises(SpoiledUpdateError) as caught:
        job.combine(one)
    assert caught.value.device == "a"
