"""Rounds in which all weights are trained, on three numbers and by hand, from blobs to blobs."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.aggregation.contract import Trained
from hub.aggregation.strategies import configured
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.combining import combine_round
from hub.rounds.events import Combined
from hub.rounds.server_state import read_state
from hub.rounds.state import Update
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.frames import follow
from wire.manifest import AdapterManifest
from wire.messages import TrainMetrics
from wire.tensors import pack, reading

METRICS = TrainMetrics(steps=1, tokens=1, loss_first=1.0, loss_last=1.0, seconds_per_step=1.0)


class Job:
    """A norm and matrices of so many numbers each; what devices send is exact."""

    def __init__(
        self,
        folder: Path,
        strategy: str = "fedavg",
        codec: str = "raw",
        width: int = 3,
        matrices: int = 1,
        **options: float,
    ) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {"norm.weight": (width,)}
        self.shapes |= {f"w{k or ''}.weight": (1, width) for k in range(matrices)}
        self.store = BlobStore(folder)
        self.adapters = Adapters(self.store)
        self.strategy = configured(strategy, options)
        self.codec = codec
        manifest = AdapterManifest(
            job="j", round=0, base="a" * 64, rank=0, tokens=0, shapes={}, hidden_size=3, parts=[],
            weights=self.shapes,
        )  # fmt: skip
        self.versions = [self.adapters.begin(manifest, 7, codec)]
        self.state: str | None = None
        self.last: Combined | None = None

    def update(
        self,
        device: str,
        norm: Sequence[float],
        w: Sequence[float] = (0, 0, 0),
        *,
        late: int = 0,
        **facts: int,
    ) -> Update:
        tensors = {name: np.array([w], dtype=np.float32) for name in self.shapes}
        tensors["norm.weight"] = np.array(norm, dtype=np.float32)
        values: dict[str, Any] = {"tokens": 100, "steps": 1} | facts
        return Update(
            device=device,
            round=len(self.versions) - late,
            start=self.versions[-1 - late],
            sha256=self.store.put(pack(tensors, by_name("raw"), 0)),
            size_bytes=1,
            role="full",
            rank=0,
            train=METRICS,
            download_s=0.0,
            upload_s=0.0,
            peak_bytes=0,
            **values,
        )

    def play(self, *updates: Update) -> list[list[float]]:
        """Combine and publish a round; return the norm's and the matrix's moves from the base."""
        self.combine(*updates)
        return self.moves(self.versions[-1])

    def combine(self, *updates: Update) -> None:
        """Combine and publish a round."""
        round_ = len(self.versions)
        self.last = combine_round(
            self.store,
            self.adapters,
            Combine(round=round_, start=self.versions[-1], state=self.state, updates=updates),
            rule="stack_svd",
            strategy=self.strategy,
            trained=lambda one, at: Trained(
                one.device, one.tokens, one.staleness(at), steps=one.steps, lr=0.5
            ),
            codec=self.codec,
        )
        self.state = self.last.state
        self.versions.append(self.last.manifest)

    def moves(self, version: str) -> list[list[float]]:
        with reading(self.adapters.load(version).full, self.shapes) as tensor_of:
            return [tensor_of(name).ravel().tolist() for name in self.shapes]

    def read(self, sha256: str | None) -> list[list[float]]:
        assert sha256 is not None
        with reading(self.store.path(sha256), self.shapes) as tensor_of:
            return [tensor_of(name).ravel().tolist() for name in self.shapes]


def test_the_start_is_sent_as_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path)
    assert list(job.adapters.files(job.versions[0])) == ["manifest"]
    assert job.adapters.load(job.versions[0]).full is None
    assert job.moves(job.versions[0]) == [[0, 0, 0], [0, 0, 0]]


def test_updates_are_averaged_by_tokens(tmp_path: Path) -> None:
    """FedAvg (arXiv 1602.05629): (3 · (4, 0, 0) + (0, 4, 0)) / 4; then the same from there."""
    job = Job(tmp_path)
    a, b = job.update("a", [4, 0, 0], tokens=300), job.update("b", [0, 4, 0], [0, 0, 8], tokens=100)
    assert job.play(b, a) == [[3, 1, 0], [0, 0, 2]]
    assert job.play(job.update("a", [1, 1, 1])) == [[4, 2, 1], [0, 0, 2]]


def test_diloco_looks_ahead(tmp_path: Path) -> None:
    """arXiv 2311.08105, η = β = 0.5: w ← w + 0.5 (Δ + v / 2) with v ← v / 2 + Δ."""
    job = Job(tmp_path, "diloco", lr=0.5, momentum=0.5)
    assert job.play(job.update("a", [8, 0, 0])) == [[6, 0, 0], [0, 0, 0]]
    # Δ = (0, 4, 0) and v = (4, 4, 0): moved by (1, 3, 0). The matrix: 0.5 (2 + 1).
    moved = job.play(job.update("a", [0, 4, 0], [2, 0, 0]))
    assert moved == [[7, 3, 0], [1.5, 0, 0]]


def test_fedadam_steps_entry_by_entry(tmp_path: Path) -> None:
    """arXiv 2003.00295: Δ = (2, 0, -4), m = Δ / 2, v = τ²/2 + Δ²/2, w ← 0.5 m / (√v + τ)."""
    job = Job(tmp_path, "fedadam", lr=0.5, beta1=0.5, beta2=0.5, tau=1.0)
    norm, matrix = job.play(job.update("a", [2, 0, -4]))
    meant = 0.5 * np.array([1, 0, -2]) / (np.sqrt([2.5, 0.5, 8.5]) + 1)
    np.testing.assert_allclose(norm, meant, atol=1e-6)
    assert matrix == [0, 0, 0]


def test_scaffold_keeps_a_control_variate_of_every_weight(tmp_path: Path) -> None:
    """arXiv 1910.06378, option II with K η = 1: c_i = -Δ in the first round."""
    job = Job(tmp_path, "scaffold")
    job.play(
        job.update("a", [-2, 0, 0], [0, 0, 4], steps=2),
        job.update("b", [0, -4, 0], steps=2),
    )
    assert job.state is not None
    controls = read_state(job.store, job.state).controls
    assert job.read(controls.own["a"]) == [[2, 0, 0], [0, 0, -4]]
    assert job.read(controls.own["b"]) == [[0, 4, 0], [0, 0, 0]]
    assert job.read(controls.common) == [[1, 2, 0], [0, 0, -2]]


def test_fednova_weighs_by_steps(tmp_path: Path) -> None:
    """arXiv 2007.07481: p = 1/2 each, steps 1 and 3, so weights 1 and 1/3."""
    job = Job(tmp_path, "fednova")
    moved = job.play(job.update("a", [3, 0, 0], steps=1), job.update("b", [0, 3, 0], steps=3))
    np.testing.assert_allclose(moved[0], [3, 1, 0], rtol=1e-6)


def test_a_late_update_adds_its_difference_damped(tmp_path: Path) -> None:
    """FedBuff (arXiv 2106.06639): three rounds late counts 1/√4, and K is 2."""
    job = Job(tmp_path, "fedbuff")
    for _ in range(3):
        job.play(job.update("a", [0, 0, 0]))
    moved = job.play(job.update("a", [2, 0, 0]), job.update("b", [0, 1, 0], late=3))
    np.testing.assert_allclose(moved[0], [1, 0.25, 0], rtol=1e-6)


vectors = st.lists(st.integers(-8, 8), min_size=3, max_size=3)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(moves=st.lists(vectors, min_size=1, max_size=5), data=st.data())
def test_the_order_of_updates_changes_nothing(
    tmp_path: Path, moves: list[list[int]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(moves))))
    one, other = Job(tmp_path), Job(tmp_path)
    first = one.play(*(one.update(f"d{k}", move) for k, move in enumerate(moves)))
    again = other.play(*(other.update(f"d{k}", moves[k]) for k in order))
    assert first == again
    assert one.versions == other.versions


@pytest.mark.parametrize("strategy", ["fedavg", "diloco"])
def test_a_version_is_had_by_differences(tmp_path: Path, strategy: str) -> None:
    """What a device makes of a chain of differences has the sha256 of the whole."""
    job = Job(tmp_path, strategy, codec="auto", width=4096)
    rng = np.random.default_rng(3)
    for _ in range(3):
        job.play(job.update("a", rng.standard_normal(4096), rng.standard_normal(4096)))
    first, *later = (job.adapters.manifest(one).parts[0] for one in job.versions[1:])
    # From nothing, the whole is as coarse as a difference: 8192 numbers of some 1.3 bits.
    assert (first.name, first.codec, first.difference) == ("full", "entropy", None)
    assert first.size_bytes < 1600
    changes = [part.difference for part in later]
    paths = [job.store.path(one.sha256) for one in changes if one is not None]
    held = job.store.path(first.sha256)
    assert held is not None
    with (tmp_path / "made").open("wb") as file:
        follow(file, held, [path for path in paths if path], job.shapes, later[-1].codec)
    assert len(paths) == 2
    assert job.store.put_file(tmp_path / "made") == later[-1].sha256


def test_memory_holds_a_few_tensors_however_many_devices_and_weights(tmp_path: Path) -> None:
    """Tensors of 64 KiB; each is summed in float64, as are its control variates."""
    width, peaks = 16384, []
    for devices, matrices in ((2, 3), (12, 15)):
        job = Job(tmp_path / str(devices), "scaffold", "raw", width, matrices=matrices)
        drawn = np.random.default_rng(3).standard_normal((devices, 2, width))
        updates = [job.update(f"d{k}", *both) for k, both in enumerate(drawn)]
        tracemalloc.start()
        job.combine(*updates)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Of 12 MiB that were sent; files are copied in blocks of 1 MiB.
    assert max(peaks) < 3 * 2**20
