"""A worker of two processes, started by accelerate, does what one process does."""

import json
import os
import queue
import re
from pathlib import Path

import msgspec
import psutil
import pytest

from edge_agent.protocol import Failed, Finished, Losses, Ready, Warm, Work
from edge_agent.silo import Silo
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess
from tests.silo_config import write_silo_config
from wire.manifest import AdapterManifest
from wire.messages import LocalWork
from wire.shape import parameter_shapes
from wire.tensors import PackedFile

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 120
#: Of an odd batch in two parts, the processes get unlike numbers of rows, and once one gets none.
LOCAL = LocalWork(
    steps=4, batch=3, seq_len=32, optimizer="adamw", lr=0.01, seed=1, clip=0.5, accumulate=3
)


class Driven:
    """A worker process, and what it reports."""

    def __init__(self, folder, silo=None):
        folder.mkdir()
        self.log = folder / "worker.log"
        self.events = queue.SimpleQueue()
        self.process = WorkerProcess(1, self.log, self.events.put, silo)

    def do(self, command):
        """Return the losses that a task began with, and how it ended."""
        self.process.send(command)
        losses = []
        while True:
            event = self.events.get(timeout=TIMEOUT_S)
            assert isinstance(event, WorkerEvent), (event, self.log.read_text()[-3000:])
            if isinstance(event.event, Losses):
                losses = event.event.evaluations
            if isinstance(event.event, Finished | Failed):
                return losses, event.event


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    started = []

    def start_one(name, kind=None):
        config = tmp_path / f"{name}.yaml"
        silo = Silo(config=str(write_silo_config(config, kind)), processes=2) if kind else None
        started.append(Driven(tmp_path / name, silo))
        return started[-1]

    yield start_one
    for one in started:
        one.process.stop()


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "private.jsonl"
    lines = [{"prompt": f"what is {i}?", "response": "one more " * (i % 4)} for i in range(1, 80)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


def task(base, saved, data, out, **changes):
    settings = {
        "task": "job.1.dev", "role": "lora", "rung": "resident", "rank": 2,
        "base_folder": str(base), "manifest": str(saved.manifest_file),
        "parts": {sha256: str(path) for sha256, path in saved.parts.items()},
        "data": [str(data)], "codec": "raw", "out": str(out), "batch": 3, "seq_len": 32,
        "work": LOCAL, "variants": ["base", "adapter"],
    }  # fmt: skip
    return Work(**{**settings, **changes})


def whole_task(base, folder, data):
    """Return a task that trains all weights, from where the base is."""
    config = json.loads((base / "config.json").read_text())
    shapes = parameter_shapes(config)
    manifest = AdapterManifest(
        job="test", round=1, base="0" * 64, rank=0, tokens=0, shapes={},
        hidden_size=config["hidden_size"], parts=[], weights=shapes,
    )  # fmt: skip
    folder.mkdir()
    (folder / "manifest.json").write_bytes(manifest.encode())
    return Work(
        task="job.2.dev", role="full", rung="resident", rank=0, base_folder=str(base),
        manifest=str(folder / "manifest.json"), parts={}, data=[str(data)], codec="raw",
        out=str(folder), batch=3, seq_len=32,
        work=msgspec.structs.replace(LOCAL, optimizer="sgd", lr=0.1),
    )  # fmt: skip


def update_of(finished, shapes):
    assert isinstance(finished, Finished), finished
    with PackedFile.open(Path(finished.update), shapes) as packed:
        return {name: packed.get(name).copy() for name in packed.names()}


@pytest.mark.parametrize("kind", ["MULTI_GPU", "FSDP"])
def test_two_processes_take_the_steps_of_one(start, llama, make_adapter, data, tmp_path, kind):  # noqa: PLR0917 - fixtures
    saved = make_adapter(llama, rank=4, tokens=3)
    one, two = start("one"), start("two", kind)
    expected_losses, expected = one.do(task(llama, saved, data, tmp_path / "a"))
    losses, found = two.do(task(llama, saved, data, tmp_path / "b"))

    # The single process's numbers are the oracle.
    assert [loss.tokens for loss in losses] == [loss.tokens for loss in expected_losses]
    for loss, wanted in zip(losses, expected_losses, strict=True):
        assert loss.loss == pytest.approx(wanted.loss, abs=1e-5)
    assert found.train.loss_last == pytest.approx(expected.train.loss_last, abs=1e-5)
    assert found.train.tokens == expected.train.tokens
    shapes = saved.manifest.expected_lora(2)
    update, wanted = update_of(found, shapes), update_of(expected, shapes)
    assert update.keys() == wanted.keys()
    for name, value in wanted.items():
        assert abs(value).max() > 1e-3
        assert update[name] == pytest.approx(value, abs=1e-5)

    # Each process holds half of every block: all sizes of this base are even.
    parts = re.findall(r"(\d+) of (\d+) bytes of the blocks", two.log.read_text())
    assert len(parts) == (2 if kind == "FSDP" else 0)
    assert all(2 * int(here) == int(whole) > 0 for here, whole in parts)

    # What fails in all of them, and what the first does alone, leaves them able to go on.
    empty = tmp_path / "empty.jsonl"
    empty.write_text("broken\n")
    assert two.do(task(llama, saved, empty, tmp_path / "b"))[1].kind == "data"
    if kind == "MULTI_GPU":
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "process-1").write_text("in the way of the second one's folder")
        failed = two.do(task(llama, saved, data, tmp_path / "c"))[1]
        assert "another process of this device failed" in failed.message
    streamed = task(llama, saved, data, tmp_path / "b", rung="streamed")
    assert isinstance(two.do(streamed)[1], Finished)
    again = update_of(two.do(task(llama, saved, data, tmp_path / "b"))[1], shapes)
    for name, value in update.items():
        assert again[name] == pytest.approx(value, abs=0)

    # All weights, which every process holds whole.
    whole = whole_task(llama, tmp_path / "whole", data)
    shapes = parameter_shapes(json.loads((llama / "config.json").read_text()))
    wanted = update_of(one.do(whole)[1], shapes)
    update = update_of(two.do(whole)[1], shapes)
    for name, value in wanted.items():
        assert abs(value).max() > 1e-5
        assert update[name] == pytest.approx(value, abs=1e-6)

    # All of them count, and all of them end.
    workers = [
        process
        for process in psutil.Process(two.process.pid).children(recursive=True)
        if "edge_agent.worker" in process.cmdline()
    ]
    assert len(workers) == 2
    assert two.process.sample() > sum(process.memory_info().rss for process in workers) * 0.9
    two.process.stop()
    _, alive = psutil.wait_procs(workers, TIMEOUT_S)
    assert not alive


@pytest.mark.parametrize("victim", ["launcher", "other"])
def test_the_end_of_one_process_is_the_end_of_all(start, victim):
    two = start("two", "MULTI_GPU")
    two.process.send(Warm())
    assert isinstance(two.events.get(timeout=TIMEOUT_S).event, Ready)
    launcher = psutil.Process(two.process.pid)
    workers = [
        process
        for process in launcher.children(recursive=True)
        if "edge_agent.worker" in process.cmdline()
    ]
    if victim == "launcher":
        two.process.kill()
    else:
        (second,) = [one for one in workers if one.environ()["RANK"] == "1"]
        os.kill(second.pid, 9)
    while not isinstance(event := two.events.get(timeout=TIMEOUT_S), WorkerDied):
        pass
    assert event.code != 0
    _, alive = psutil.wait_procs(workers, TIMEOUT_S)
    assert not alive
