"""Every rule for two rounds, from the offer's words to the next adapter, without a broker between.

The device's side is the worker's own (`edge_agent.training.task`), the hub's its own check, rule
and packing. Two devices of ranks 4 and 2 train, one on a base in memory, the other in its file.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.protocol import Finished, Losses, Work
from edge_agent.training.task import Tasks
from hub.aggregation.check import check_update, reach
from hub.aggregation.contract import Array, Trained
from hub.aggregation.rules import product_rule, product_rules
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.strategies import configured
from hub.models import target_shapes
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import trains_of
from hub.rounds.combining import combine_round
from hub.rounds.state import Update
from tests.system.agent_base import write_data, write_trainable_base
from wire.blobs import BlobStore
from wire.core_directions import directions
from wire.manifest import AdapterManifest
from wire.messages import LocalWork
from wire.model_file import config_of
from wire.shape import target_modules
from wire.tensors import PackedFile
from wire.trained_factors import update_shapes

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

RANK, LR, STEPS = 4, 0.02, 4
DEVICES = {"large": (4, "resident"), "small": (2, "streamed")}


class Job:
    """A hub's and two devices' files."""

    def __init__(
        self, folder: Path, rule: str, codec: str, pattern: dict[str, int] | None = None
    ) -> None:
        self.folder, self.rule, self.codec = folder, product_rule(rule), codec
        self.devices = dict(DEVICES)
        self.base = write_trainable_base(folder / "base")
        self.data = write_data(folder / "private.jsonl", marker="m")
        self.blobs = BlobStore(folder / "blobs")
        self.adapters = Adapters(self.blobs)
        targets = target_modules(config_of(self.base))
        start = AdapterManifest(
            job="j",
            round=0,
            base="a" * 64,
            rank=RANK,
            tokens=0,
            shapes=target_shapes(targets, pattern or {}),
            hidden_size=32,
            parts=[],
        )
        self.versions = [self.adapters.begin(start, 7, codec)]
        self.updates: list[dict[str, dict[str, Array]]] = []  # by round and device
        self.losses: list[float] = []  # of the large device, of each round's start
        self._events: list[object] = []
        # Warm between rounds, as workers are.
        self._workers = {
            rung: Tasks(self._events.append, lambda _: False) for rung in ("resident", "streamed")
        }

    def round(self) -> None:
        """Let both devices train and publish what comes of it."""
        round_, version = len(self.versions), self.versions[-1]
        updates, held = [], {}
        for device, (rank, rung) in self.devices.items():
            path = self._train(device, rank, rung, round_)
            manifest = self.adapters.manifest(version)
            trains = trains_of(self.rule, rung, round_)
            check_update(
                path, "lora", manifest, rank=rank, codec=self.codec, max_rms=reach(LR, STEPS),
                trains=trains,
            )  # fmt: skip
            expected = update_shapes(manifest.expected_lora(rank), trains)
            with PackedFile.open(path, expected) as packed:
                held[device] = {name: packed.get(name) for name in packed.names()}
            updates.append(
                Update(
                    device=device, round=round_, start=version, role="lora", rank=rank, rung=rung,
                    tokens=100,
                    sha256=self.blobs.put(path.read_bytes()), size_bytes=1, train=self._metrics,
                    download_s=0, upload_s=0, peak_bytes=0,
                )
            )  # fmt: skip
        self.updates.append(held)
        action = Combine(round=round_, start=version, updates=tuple(updates))
        made = combine_round(
            self.blobs, self.adapters, action, rule=self.rule.name,
            strategy=configured("fedavg", {}),
            trained=lambda one, now: Trained(one.device, one.tokens, one.staleness(now)),
            codec=self.codec,
        )  # fmt: skip
        self.versions.append(made.manifest)

    def evaluate(self) -> float:
        """Return the newest adapter's loss on held-out text."""
        return self._run(self._work("infer", "infer", 0, None))[0]

    def values(self, version: int) -> dict[str, Array]:
        """Return a version's factors."""
        adapter = self.adapters.load(self.versions[version])
        with SlicedFactors(adapter.manifest, adapter.lora) as factors:
            return {name: factors.tensor(name) for name in adapter.manifest.expected_lora(RANK)}

    def _train(self, device: str, rank: int, rung: str, round_: int) -> Path:
        work = LocalWork(
            steps=STEPS, batch=4, seq_len=48, optimizer="adamw", lr=LR, seed=round_,
            trains=trains_of(self.rule, rung, round_), rest=self.rule.rest,
        )  # fmt: skip
        loss, finished = self._run(self._work("lora", rung, rank, work))
        assert finished.update is not None
        assert finished.train is not None
        self._metrics = finished.train
        if device == "large":
            self.losses.append(loss)
        return Path(finished.update)

    def _run(self, work: Work) -> tuple[float, Finished]:
        self._events.clear()
        self._workers["resident" if work.rung == "resident" else "streamed"].run(work)
        (losses,) = [event for event in self._events if isinstance(event, Losses)]
        finished = self._events[-1]
        assert isinstance(finished, Finished)
        return losses.evaluations[0].loss, finished

    def _work(self, role: str, rung: str, rank: int, local: LocalWork | None) -> Work:
        version = self.versions[-1]
        parts = self.adapters.manifest(version).parts
        return Work(
            task="t", role=role, rung=rung, rank=rank, base_folder=str(self.base),  # type: ignore[arg-type]
            manifest=str(self.blobs.path(version)),
            parts={part.sha256: str(self.blobs.path(part.sha256)) for part in parts},
            data=[str(self.data)], codec=self.codec, out=str(self.folder / "out"), batch=4,
            seq_len=48, work=local, variants=["adapter"],
        )  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rule", sorted(product_rules()))
def test_two_rounds_learn(tmp_path: Path, rule: str) -> None:
    job = Job(tmp_path, rule, "entropy")
    job.round()
    job.round()
    before, between = job.losses
    assert between < before
    assert job.evaluate() < between


#: Ranks below and between the devices' own.
PATTERN = {"down_proj": 1, "layers.0.self_attn.q_proj": 3, "v_proj": 2}


@pytest.mark.parametrize("rule", sorted(product_rules()))
def test_layers_keep_ranks_of_their_own(tmp_path: Path, rule: str) -> None:
    job = Job(tmp_path, rule, "raw", PATTERN)
    job.round()
    job.round()
    for version in range(3):
        for name, value in job.values(version).items():
            target, _, factor = name.rpartition(".")
            ends = [rank for end, rank in PATTERN.items() if target.endswith(end)]
            assert value.shape[0 if factor == "lora_A" else 1] == (ends or [RANK])[0]
    sent = job.updates[0]["small"]
    assert sent["model.layers.1.mlp.down_proj.lora_B"].shape == (32, 1)
    assert sent["model.layers.1.mlp.up_proj.lora_B"].shape == (256, 2)
    before, between = job.losses
    assert between < before
    assert job.evaluate() < between


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    def made(rule: str) -> Job:
        job = Job(tmp_path, rule, "raw")
        job.round()
        job.round()
        return job

    return made


def padded(job: Job, name: str) -> Array:
    """Return the mean of a factor over both devices in round 2, zeros where one has none."""
    start = job.values(1)[name]
    total = np.zeros_like(start)
    for device, (rank, _) in DEVICES.items():
        own = np.index_exp[:rank] if name.endswith("lora_A") else np.index_exp[:, :rank]
        total[own] += (start[own] + job.updates[1][device][name]) / 2
    return total


def test_fedit_averages_the_factors(run) -> None:  # type: ignore[no-untyped-def]
    job = run("fedit")
    for name, value in job.values(2).items():
        np.testing.assert_allclose(value, padded(job, name), atol=1e-6)


def test_flexlora_averages_the_products(run) -> None:  # type: ignore[no-untyped-def]
    job = run("flexlora")
    start, end = job.values(1), job.values(2)
    target = "model.layers.1.mlp.up_proj"
    mean = np.zeros((256, 32))
    for device, (rank, _) in DEVICES.items():
        update = job.updates[1][device]
        a = start[f"{target}.lora_A"][:rank] + update[f"{target}.lora_A"]
        b = start[f"{target}.lora_B"][:, :rank] + update[f"{target}.lora_B"]
        mean += b.astype(np.float64) @ a / 2
    u, s, vt = np.linalg.svd(mean, full_matrices=False)
    got = end[f"{target}.lora_B"].astype(np.float64) @ end[f"{target}.lora_A"]
    np.testing.assert_allclose(got, (u[:, :RANK] * s[:RANK]) @ vt[:RANK], atol=1e-5)
    # In order of weight: a device of low rank takes the leading ones.
    lengths = np.linalg.norm(end[f"{target}.lora_B"], axis=0)
    np.testing.assert_allclose(lengths, s[:RANK], rtol=1e-4)


def test_freeze_a_trains_b_alone(run) -> None:  # type: ignore[no-untyped-def]
    job = run("freeze_a")
    first, second, third = (job.values(version) for version in range(3))
    for name in first:
        if name.endswith("lora_A"):
            np.testing.assert_array_equal(first[name], third[name])
        else:
            assert not np.array_equal(second[name], third[name])
    assert all(
        name.endswith("lora_B") for held in job.updates for one in held.values() for name in one
    )


def test_fedsvd_keeps_the_mean_and_turns_a(run) -> None:  # type: ignore[no-untyped-def]
    job = run("fedsvd")
    start, end = job.values(1), job.values(2)
    target = "model.layers.0.self_attn.q_proj"
    a, b = start[f"{target}.lora_A"], start[f"{target}.lora_B"].astype(np.float64)
    for device, (rank, _) in DEVICES.items():
        assert list(job.updates[1][device]) == [n for n in sorted(start) if n.endswith("lora_B")]
        b[:, :rank] += job.updates[1][device][f"{target}.lora_B"] / 2
    np.testing.assert_allclose(
        end[f"{target}.lora_B"].astype(np.float64) @ end[f"{target}.lora_A"], b @ a, atol=1e-6
    )
    turned = end[f"{target}.lora_A"]
    np.testing.assert_allclose(turned @ turned.T, np.eye(RANK), atol=1e-5)


def test_alternate_trains_b_and_then_a(run) -> None:  # type: ignore[no-untyped-def]
    job = run("alternate")
    versions = [job.values(version) for version in range(3)]
    changed = [
        {name[-1] for name in old if not np.array_equal(old[name], new[name])}
        for old, new in pairwise(versions)
    ]
    assert changed == [{"B"}, {"A"}]


def test_core_fixes_the_directions_in_the_first_round(run) -> None:  # type: ignore[no-untyped-def]
    job = run("core")
    start, end = job.values(1), job.values(2)
    assert {name.rpartition(".")[2] for name in job.updates[0]["large"]} == {"lora_A", "lora_B"}
    target = "model.layers.1.self_attn.v_proj"
    b = start[f"{target}.lora_B"].astype(np.float64)
    for device, (rank, _) in DEVICES.items():
        update = job.updates[1][device]
        assert {value.shape for value in update.values()} == {(rank, rank)}
        u, _ = directions(start[f"{target}.lora_B"][:, :rank])
        b[:, :rank] += u @ update[f"{target}.core"] / 2
    np.testing.assert_array_equal(end[f"{target}.lora_A"], start[f"{target}.lora_A"])
    np.testing.assert_allclose(end[f"{target}.lora_B"], b, atol=1e-6)


def test_a_device_with_room_for_cores_alone_takes_part(tmp_path: Path) -> None:
    job = Job(tmp_path, "stack_svd", "raw")
    job.devices = {"large": (4, "resident"), "tiny": (2, "core")}
    job.round()
    job.round()
    target = "model.layers.0.mlp.down_proj"
    assert job.updates[1]["tiny"][f"{target}.core"].shape == (2, 2)
    start, end = job.values(1), job.values(2)
    a, b = start[f"{target}.lora_A"].astype(np.float64), start[f"{target}.lora_B"]
    large, tiny = job.updates[1]["large"], job.updates[1]["tiny"]
    u, _ = directions(b[:, :2])
    mean = ((b + large[f"{target}.lora_B"]) @ (a + large[f"{target}.lora_A"]) + b @ a) / 2
    mean += u @ tiny[f"{target}.core"] @ a[:2] / 2
    left, s, right = np.linalg.svd(mean, full_matrices=False)
    got = end[f"{target}.lora_B"].astype(np.float64) @ end[f"{target}.lora_A"]
    np.testing.assert_allclose(got, (left[:, :4] * s[:4]) @ right[:4], atol=1e-5)
    assert job.losses[1] < job.losses[0]
