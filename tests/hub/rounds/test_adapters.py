"""The versions of an adapter in the hub's store: what is broadcast of each, and what stays."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.training.start import PackedStart
from hub.aggregation.combine import Combined
from hub.aggregation.contract import Factors
from hub.aggregation.layers import Layers
from hub.aggregation.slices import SlicedFactors
from hub.rounds.adapters import Adapters
from wire.blobs import BlobStore
from wire.frames import follow
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import PackedFile

RANK, OUT, INPUTS, TOKENS = 8, 192, 128, 4


class Job:
    """Rounds of random walks, published one after the other."""

    def __init__(
        self,
        folder: Path,
        codec: str = "auto",
        *,
        mixed: bool = True,
        ordered: bool = True,
        rank_of_q: int = 0,
    ) -> None:
        self.store = BlobStore(folder)
        self.adapters = Adapters(self.store)
        self.codec = codec
        self.mixed = mixed
        self._rng = np.random.default_rng(4)
        start = AdapterManifest(
            job="j",
            round=0,
            base="a" * 64,
            rank=RANK,
            tokens=TOKENS,
            shapes={
                name: TargetShape(inputs=INPUTS, outputs=OUT, rank=rank)
                for name, rank in (("k", 0), ("q", rank_of_q))
            },
            hidden_size=64,
            parts=[],
        )
        self.versions = [self.adapters.begin(start, 7, codec, ordered=ordered)]

    def advance(self, scale: float = 0.01) -> dict[str, np.ndarray]:
        """Publish a version near the last one, in another basis; return what was meant."""
        start = self.adapters.load(self.versions[-1])
        before = self.values(self.versions[-1])
        moved = {
            name: value + (scale * self._rng.standard_normal(value.shape)).astype(np.float32)
            for name, value in before.items()
        }
        # With mixed ranks, importance stays in order between the bands of rank 8.
        turn = np.zeros((RANK, RANK), np.float32)
        bands = ((0, 1), (1, 2), (2, 4), (4, 8)) if self.mixed else ((0, 8),)
        for first, stop in bands:
            drawn = self._rng.standard_normal((stop - first, stop - first))
            turn[first:stop, first:stop] = np.linalg.qr(drawn)[0]
        for target in ("k", "q"):
            held = len(moved[f"{target}.lora_A"])
            moved[f"{target}.lora_A"] = turn[:held, :held] @ moved[f"{target}.lora_A"]
            moved[f"{target}.lora_B"] = moved[f"{target}.lora_B"] @ turn[:held, :held].T
        lora = {name: value for name, value in moved.items() if name != "prompt"}
        layers = Layers(
            {name: value.shape for name, value in lora.items()},
            lambda target: Factors(lora[f"{target}.lora_A"], lora[f"{target}.lora_B"]),
        )
        combined = Combined(lora=layers, prompt={"prompt": moved["prompt"]})
        round_ = len(self.versions)
        self.versions.append(
            self.adapters.advance(
                self.versions[-1], start, combined, round_, self.codec, mixed=self.mixed
            )
        )
        return moved

    def values(self, version: str) -> dict[str, np.ndarray]:
        adapter = self.adapters.load(version)
        manifest = adapter.manifest
        with SlicedFactors(manifest, adapter.lora) as factors:
            found = {name: factors.tensor(name) for name in manifest.expected_lora(RANK)}
        assert adapter.prompt is not None
        with PackedFile.open(adapter.prompt, manifest.expected_prompt()) as packed:
            return found | {"prompt": packed.get("prompt")}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def product(values: dict[str, np.ndarray], target: str) -> np.ndarray:
    return values[f"{target}.lora_B"] @ values[f"{target}.lora_A"]


def test_the_start_takes_a_bit_for_each_sign(job: Job) -> None:
    start = job.adapters.manifest(job.versions[0])
    lora = start.parts[0]
    assert lora.codec == "entropy"
    assert lora.size_bytes < 2 * RANK * INPUTS / 8 + 100
    a = job.values(job.versions[0])["q.lora_A"]
    assert np.unique(np.abs(a)) == pytest.approx([INPUTS**-0.5])


def test_a_round_is_published_as_a_difference(job: Job) -> None:
    job.advance()
    manifest = job.adapters.manifest(job.versions[1])
    files = job.adapters.files(job.versions[1])
    assert list(files) == ["manifest", "lora-0", "prompt-0"]
    for part in manifest.parts:
        assert part.difference is not None
        assert files[f"{part.name}-0"].name == part.difference.sha256
        assert part.difference.size_bytes < part.size_bytes
    # 1.25 bits for each of 2 * 8 * (192 + 128) numbers, and a few bytes a tensor.
    lora = manifest.parts[0]
    assert lora.difference is not None
    assert lora.difference.size_bytes < 5120 * 1.4 / 8 + 150


def test_a_device_comes_to_the_same_bytes(job: Job, tmp_path: Path) -> None:
    job.advance()
    job.advance()
    part = job.adapters.manifest(job.versions[2]).parts[0]
    middle = job.adapters.manifest(job.versions[1]).parts[0]
    assert part.difference is not None
    assert middle.difference is not None
    paths = [job.store.path(one.difference.sha256) for one in (middle, part) if one.difference]
    with (tmp_path / "made").open("wb") as out:
        expected = job.adapters.manifest(job.versions[2]).expected(part)
        whole = job.store.path(middle.difference.to)
        assert whole is not None
        follow(out, whole, [path for path in paths if path], expected, part.codec)
    path = job.store.path(part.sha256)
    assert path is not None
    assert (tmp_path / "made").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("mixed", [True, False])
def test_the_basis_turns_but_what_is_published_follows_the_product(
    tmp_path: Path, mixed: bool
) -> None:
    job = Job(tmp_path, mixed=mixed)
    meant = job.advance(scale=0.05)
    found = job.values(job.versions[1])
    before = job.values(job.versions[0])
    for target in ("k", "q"):
        moved = product(meant, target) - product(before, target)
        missed = product(found, target) - product(meant, target)
        # The quantiser's noise has a third of the energy of what changed (ADR 11): 0.58 of its
        # length. In a basis that is turned at random it would be larger than what changed.
        assert np.linalg.norm(missed) < 0.75 * np.linalg.norm(moved)


def test_a_part_that_nobody_trained_stays_as_it_is(job: Job) -> None:
    job.advance()
    start = job.adapters.load(job.versions[1])
    nothing = Combined(lora=None, prompt=None)
    version = job.adapters.advance(job.versions[1], start, nothing, 2, "auto", mixed=True)
    assert job.adapters.manifest(version).parts == job.adapters.manifest(job.versions[1]).parts
    assert job.adapters.manifest(version).previous is not None


@pytest.fixture
def sliced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose adapter is so large, for its chunks, that it comes in slices."""
    # 640 numbers a rank, at 1.25 bits: 100 bytes a component.
    monkeypatch.setattr("hub.aggregation.bands.CHUNK_BYTES", 150)
    return Job(tmp_path)


def test_a_large_adapter_comes_in_slices_of_falling_importance(sliced: Job) -> None:
    sliced.advance()
    version = sliced.versions[1]
    slices = sliced.adapters.manifest(version).lora_slices()
    assert [(one.slice, one.rank) for one in slices] == [(0, 2), (1, 2), (2, 4)]
    assert all(one.difference is not None for one in slices)
    assert list(sliced.adapters.files(version)) == [
        "manifest", "lora-0", "lora-1", "lora-2", "prompt-0",
    ]  # fmt: skip


def test_components_in_no_order_come_in_one_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.aggregation.bands.CHUNK_BYTES", 150)
    job = Job(tmp_path, ordered=False)
    job.advance()
    for version in job.versions:
        assert [one.rank for one in job.adapters.manifest(version).lora_slices()] == [0]  # all


def test_slices_and_whole_are_the_same_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Job(tmp_path / "whole", "raw")
    monkeypatch.setattr("hub.aggregation.bands.CHUNK_BYTES", 150)
    sliced = Job(tmp_path / "sliced", "raw")
    for job in (whole, sliced):
        job.advance()
        job.advance()
    assert len(sliced.adapters.manifest(sliced.versions[2]).lora_slices()) == 3
    meant, found = whole.values(whole.versions[2]), sliced.values(sliced.versions[2])
    assert all(np.array_equal(found[name], meant[name]) for name in meant)


def test_a_slice_lacks_layers_that_have_no_such_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.aggregation.bands.CHUNK_BYTES", 150)
    job = Job(tmp_path, "raw", rank_of_q=3)
    meant = job.advance()
    manifest = job.adapters.manifest(job.versions[1])
    parts = manifest.lora_slices()
    assert [one.rank for one in parts] == [2, 2, 4]
    assert [manifest.expected(one)["k.lora_A"][0] for one in parts] == [2, 2, 4]
    assert [manifest.expected(one).get("q.lora_B") for one in parts] == [(OUT, 2), (OUT, 1), None]
    found = job.values(job.versions[1])
    for target in ("k", "q"):
        np.testing.assert_allclose(product(found, target), product(meant, target), atol=1e-6)
    paths = {one.sha256: job.store.path(one.sha256) or tmp_path for one in parts}
    for components, held in ((2, 2), (4, 3), (8, 3)):
        start = PackedStart(manifest, paths, components)
        assert start.rank_of("q") == held
        np.testing.assert_array_equal(start.factor("q.lora_A"), found["q.lora_A"][:held])


def test_each_slice_is_followed_by_itself(sliced: Job, tmp_path: Path) -> None:
    sliced.advance()
    manifest = sliced.adapters.manifest(sliced.versions[1])
    part = manifest.lora_slices()[0]
    assert part.difference is not None
    before = sliced.store.path(part.difference.to)
    change, after = sliced.store.path(part.difference.sha256), sliced.store.path(part.sha256)
    assert before is not None
    assert change is not None
    assert after is not None
    with (tmp_path / "made").open("wb") as out:
        follow(out, before, [change], manifest.expected(part), part.codec)
    assert (tmp_path / "made").read_bytes() == after.read_bytes()


def test_each_layer_is_combined_once_however_many_slices(sliced: Job) -> None:
    sliced.advance()
    start = sliced.adapters.load(sliced.versions[-1])
    values = sliced.values(sliced.versions[-1])
    asked: list[str] = []

    def factors(target: str) -> Factors:
        asked.append(target)
        return Factors(values[f"{target}.lora_A"], values[f"{target}.lora_B"] * np.float32(1.1))

    lora = Layers(start.manifest.expected_lora(RANK), factors)
    sliced.adapters.advance(sliced.versions[-1], start, Combined(lora, None), 2, "auto", mixed=True)
    assert asked == ["k", "q"]


def test_a_basis_that_stays_is_not_turned(job: Job) -> None:
    """The last two components, of one band, change places: turned back, nothing has changed."""
    job.advance()
    job.advance()
    start, values = job.adapters.load(job.versions[-1]), job.values(job.versions[-1])
    swapped = [*range(6), 7, 6]

    def factors(target: str) -> Factors:
        return Factors(values[f"{target}.lora_A"][swapped], values[f"{target}.lora_B"][:, swapped])

    moved = {}
    for basis in ("same", "turned"):
        lora = Layers(start.manifest.expected_lora(RANK), factors, basis)
        version = job.adapters.advance(
            job.versions[-1], start, Combined(lora, None), 3, "auto", mixed=True
        )
        before, after = values["q.lora_A"], job.values(version)["q.lora_A"]
        moved[basis] = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert moved["turned"] < 1e-2
    assert moved["same"] > 0.1


@pytest.mark.parametrize("slices", [1, 3])
def test_a_new_basis_is_published_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    if slices > 1:
        monkeypatch.setattr("hub.aggregation.bands.CHUNK_BYTES", 150)
    job = Job(tmp_path)
    job.advance()
    start, values = job.adapters.load(job.versions[-1]), job.values(job.versions[-1])
    asked: list[str] = []

    def factors(target: str) -> Factors:
        asked.append(target)
        return Factors(values[f"{target}.lora_A"][::-1], values[f"{target}.lora_B"][:, ::-1])

    lora = Layers(start.manifest.expected_lora(RANK), factors, "new")
    version = job.adapters.advance(
        job.versions[-1], start, Combined(lora, None), 2, "auto", mixed=True
    )
    parts = job.adapters.manifest(version).lora_slices()
    assert [one.difference for one in parts] == [None] * slices
    assert np.array_equal(job.values(version)["q.lora_A"], values["q.lora_A"][::-1])
    assert asked == ["k", "q"]


def test_a_raw_job_is_exact_and_whole(tmp_path: Path) -> None:
    job = Job(tmp_path, "raw")
    meant = job.advance()
    parts = job.adapters.manifest(job.versions[1]).parts
    assert [(part.codec, part.difference) for part in parts] == [("raw", None)] * 2
    found = job.values(job.versions[1])
    assert all(np.array_equal(found[name], meant[name]) for name in meant)


@pytest.mark.parametrize("codec", ["topk", "seeds"])
def test_a_biased_codec_is_for_updates_and_not_for_what_is_published(
    tmp_path: Path, codec: str
) -> None:
    jobs = [Job(tmp_path / name, name) for name in (codec, "auto")]
    for job in jobs:
        job.advance()
    assert jobs[0].versions[1] == jobs[1].versions[1]


def test_the_way_to_a_version_is_kept_as_long_as_it_is_shorter(job: Job) -> None:
    for _ in range(20):
        job.advance()
    kept = job.adapters.blobs(job.versions[-1])
    manifests = [job.versions.index(version) for version in job.versions if version in kept]
    assert manifests == list(range(manifests[0], 21))
    newest = job.adapters.manifest(job.versions[-1])
    whole_bytes = sum(part.size_bytes for part in newest.parts)
    way = [
        part.difference.size_bytes
        for n in manifests
        for part in job.adapters.manifest(job.versions[n]).parts
        if part.difference
    ]
    assert sum(way) < whole_bytes
    assert manifests[0] > 0
