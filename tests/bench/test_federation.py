"""The rounds in one process are those of the agents and the hub."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.adapter_files import read_manifest, tensors_of
from bench.federation import Device, Federation
from bench.learning_runs import Run, Setting, fleet, job_of
from bench.report import BenchError
from edge_agent.roles import catalogue
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Trained
from edge_agent.training.drawn import training_rows
from edge_agent.training.start import PackedStart
from edge_agent.training.train import train
from hub.hash_cache import HashCache
from hub.jobs import JobFile
from hub.models import load_model
from wire.messages import LocalWork

EQUAL = Run(kind="federated", seed=7, lr=5e-3, rule="stack_svd")
MIXED = msgspec.structs.replace(EQUAL, mixed=True)


def federation(job: JobFile, devices: list[Device], folder: Path, *, rounds: int = 1) -> Federation:
    job = msgspec.structs.replace(job, rounds=rounds)
    model = load_model(job.model.base, HashCache(folder / "hashes.json"))
    return Federation(job, model, devices, folder)


def test_one_device_in_one_round_is_plain_training(setting: Setting, tmp_path: Path) -> None:
    """What comes out differs from training by hand by bfloat16's rounding, 2⁻⁸, alone."""
    job = msgspec.structs.replace(job_of(setting, EQUAL), codec="raw", rule="fedit")
    devices = fleet(setting, EQUAL)[:1]
    made = federation(job, devices, tmp_path)
    base = open_base(Path(setting.base), "resident")
    files = made.files()
    paths = {sha256: Path(path) for sha256, path in files.parts.items()}
    placed = base.place(PackedStart(read_manifest(files), paths), Trained(rank=16))
    work = LocalWork(
        steps=4, batch=4, seq_len=48, optimizer="adamw", lr=5e-3, seed=7 * 1_000_003 + 1
    )
    rows = training_rows(base.encoder, [str(devices[0].data[0])], work)
    train(placed, rows, work, catalogue()["lora"].weight_decay, lambda *_: None)

    made.run(lambda _: None)

    found = tensors_of(made.files())
    assert found.keys() == placed.values().keys()
    for name, expected in placed.values().items():
        assert found[name] == pytest.approx(expected, rel=2**-8, abs=1e-6), name


def test_a_mixed_fleet_trains_factors_and_prompt_and_asks_nothing_of_who_infers(
    setting: Setting, tmp_path: Path
) -> None:
    devices = fleet(setting, MIXED)
    assert sorted(one.rank for one in devices) == [0, 0, 2, 4, 8, 16]
    made = federation(job_of(setting, MIXED), devices, tmp_path)
    before = tensors_of(made.files())

    made.run(lambda _: None)

    after = tensors_of(made.files())
    assert {name for name in after if (after[name] != before[name]).any()} == set(before)
    assert len(made.bytes_up) == 5


def test_the_same_seed_gives_the_same_adapter(setting: Setting, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        made = federation(job_of(setting, EQUAL), fleet(setting, EQUAL)[:2], tmp_path / name)
        made.run(lambda _: None)
        digests.append(made.adapter)
    assert digests[0] == digests[1]


def test_whole_weights_come_between_what_each_device_alone_makes_of_them(
    setting: Setting, tmp_path: Path
) -> None:
    job = msgspec.structs.replace(job_of(setting, EQUAL), method="full", codec="raw")
    files = [one.data for one in fleet(setting, EQUAL)[:2]]
    one, other = (Device(f"d{n}", "full", 0, data) for n, data in enumerate(files))
    moved = []
    for number, devices in enumerate(([one], [other], [one, other])):
        made = federation(job, devices, tmp_path / str(number))
        made.run(lambda _: None)
        moved.append(tensors_of(made.files()))
    first, second, both = moved
    assert any((first[name] != second[name]).any() for name in both)
    for name, mean in both.items():
        low, high = np.minimum(first[name], second[name]), np.maximum(first[name], second[name])
        assert (low - 1e-6 <= mean).all() and (mean <= high + 1e-6).all(), name


def test_a_job_without_a_seed_is_refused(setting: Setting, tmp_path: Path) -> None:
    job = msgspec.structs.replace(job_of(setting, EQUAL), seed=None)
    with pytest.raises(BenchError, match="set seed"):
        federation(job, [], tmp_path)
