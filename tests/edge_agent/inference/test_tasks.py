"""A worker that can't import torch evaluates as one with torch does.

The judge is the block-wise engine in torch, on the same adapter, the same text and the same rows.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edge_agent.protocol import (
    Calibrate,
    Calibrated,
    Failed,
    Finished,
    Losses,
    Ready,
    TrainLocal,
    Warm,
    Work,
)
from edge_agent.runtimes import VARIABLE
from hub.derived.make import Order, make
from hub.export.base_type import BaseType
from tests.edge_agent.conftest import SavedAdapter
from tests.edge_agent.test_worker import MARKER, Driven
from wire.forward_only import VERSION, parse_steps
from wire.messages import ForwardOnly, LocalWork

#: By runtime: its module, what is in its worker's memory, and types with what they may cost.
ENGINES: dict[str, tuple[str, str, dict[BaseType, float]]] = {
    "llama.cpp": ("llama_cpp", "libllama", {BaseType.F16: 2e-3, BaseType.Q8_0: 1e-2}),
    "onnxruntime": ("onnxruntime", "onnxruntime", {BaseType.F32: 1e-4, BaseType.F16: 2e-3}),
}

DIGEST = "ab" * 32
MakeAdapter = Callable[..., SavedAdapter]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "private.jsonl"
    lines = [json.dumps({"text": f"{MARKER} sentence {i} of {i * i} letters"}) for i in range(90)]
    lines += [json.dumps({"prompt": f"{MARKER} {i}?", "response": "so it is"}) for i in range(90)]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(params=ENGINES)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if find_spec(ENGINES[name][0]) is None:
        pytest.skip(f"{ENGINES[name][0]} isn't installed")
    return name


@pytest.fixture
def engine(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    """A worker that computes with an engine and can't import torch."""
    monkeypatch.setenv(VARIABLE, runtime)
    folder = tmp_path / "engine"
    folder.mkdir()
    driven = Driven(folder)
    monkeypatch.delenv(VARIABLE)
    yield driven
    if driven.process.poll() is None:
        driven.end()


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Driven]:
    """A worker with torch."""
    folder = tmp_path / "torch"
    folder.mkdir()
    driven = Driven(folder)
    yield driven
    if driven.process.poll() is None:
        driven.end()


def derive(base: Path, folder: Path, runtime: str, stored: BaseType) -> Path:
    """Write what a hub derives of a base, as its process does."""
    folder.mkdir()
    names = ["config.json", "tokenizer.json", "tokenizer_config.json"]
    kind = f"{'gguf' if runtime == 'llama.cpp' else 'onnx'}-{stored}"
    make(Order(kind=kind, folder=str(base), files=names, digest=DIGEST, out=str(folder)))
    return folder


def work(base: Path, saved: SavedAdapter, data: Path, out: Path, **changes: Any) -> Work:
    settings: dict[str, Any] = {
        "task": "job.1.dev", "role": "infer", "rung": "infer", "rank": 0,
        "base_folder": str(base), "manifest": str(saved.manifest_file),
        "parts": {sha256: str(path) for sha256, path in saved.parts.items()},
        "data": [str(data)], "codec": "raw", "out": str(out), "batch": 4, "seq_len": 48,
        "variants": ["base", "adapter", "without_prompt"],
    }  # fmt: skip
    return Work(**{**settings, **changes})


def losses(driven: Driven, command: Work) -> dict[str, tuple[float, int]]:
    events = driven.do(command)
    (found,) = [event for event in events if isinstance(event, Losses)] or [events[-1]]
    assert isinstance(found, Losses), found
    return {one.variant: (one.loss, one.tokens) for one in found.evaluations}


def test_it_measures_what_torch_measures(  # noqa: PLR0917 (fixtures)
    runtime: str,
    engine: Driven,
    judge: Driven,
    llama: Path,
    make_adapter: MakeAdapter,
    data: Path,
    tmp_path: Path,
) -> None:
    saved = make_adapter(llama, rank=4, tokens=3, scale=0.3)
    wanted = losses(judge, work(llama, saved, data, tmp_path / "out"))
    assert len({round(loss, 3) for loss, _ in wanted.values()}) == 3  # each one differs
    for stored, tolerance in ENGINES[runtime][2].items():
        derived = derive(llama, tmp_path / stored, runtime, stored)
        found = losses(engine, work(derived, saved, data, tmp_path / "out"))
        assert list(found) == ["base", "adapter", "without_prompt"]
        for variant, (loss, tokens) in wanted.items():
            assert found[variant][1] == tokens
            assert found[variant][0] == pytest.approx(loss, rel=tolerance)


def test_it_trains_without_backprop_as_torch_does(  # noqa: PLR0917 (fixtures)
    runtime: str,
    engine: Driven,
    judge: Driven,
    llama: Path,
    make_adapter: MakeAdapter,
    data: Path,
    tmp_path: Path,
) -> None:
    """The first steps, that is: later ones go on from what rounding made of them."""
    saved = make_adapter(llama, rank=4, tokens=0, scale=0.3)
    forward = ForwardOnly(version=VERSION, epsilon=0.05, fresh=4, reach=1.0)
    local = LocalWork(
        steps=6,
        batch=4,
        seq_len=48,
        optimizer="adamw",
        lr=0.1,
        seed=3,
        trains="core",
        forward=forward,
    )
    changes = {"rung": "forward-only", "rank": 2, "work": local, "variants": []}

    def trained(driven: Driven, base: Path) -> tuple[Finished, list[float]]:
        done = driven.do(work(base, saved, data, tmp_path / "out", **changes))[-1]
        assert isinstance(done, Finished), done
        assert done.update is not None
        packed = Path(done.update).read_bytes()
        assert len(packed) <= 1024
        return done, parse_steps(packed, 6)

    derived = derive(llama, tmp_path / "derived", runtime, next(iter(ENGINES[runtime][2])))
    found, steps = trained(engine, derived)
    assert trained(engine, derived)[1] == steps
    wanted, wanted_steps = trained(judge, llama)
    assert found.train is not None
    assert wanted.train is not None
    assert found.train.steps == 6
    assert found.train.loss_first == pytest.approx(wanted.train.loss_first, rel=2e-3)
    assert any(steps)
    assert steps[:2] == pytest.approx(wanted_steps[:2], rel=0.1, abs=1e-3)


def test_a_life_without_torch(  # noqa: PLR0917 (fixtures)
    runtime: str,
    engine: Driven,
    llama: Path,
    make_adapter: MakeAdapter,
    data: Path,
    tmp_path: Path,
) -> None:
    (ready,) = engine.do(Warm(full=True))
    assert isinstance(ready, Ready)
    (calibrated,) = engine.do(Calibrate(wide=True, full=True))
    assert isinstance(calibrated, Calibrated)
    assert calibrated.measured.full_bytes is None
    if Path("/proc").is_dir():
        maps = Path(f"/proc/{engine.process.pid}/maps").read_text()
        assert ENGINES[runtime][1] in maps
        assert "libtorch" not in maps

    saved = make_adapter(llama, rank=4, tokens=0)
    derived = derive(llama, tmp_path / "derived", runtime, BaseType.F16)
    first = losses(engine, work(derived, saved, data, tmp_path / "out"))
    assert losses(engine, work(derived, saved, data, tmp_path / "out")) == first

    # What it can't do, it says, and goes on.
    def refused(command: Any) -> str:
        failed = engine.do(command)[-1]
        assert isinstance(failed, Failed), failed
        return failed.message

    lora = work(derived, saved, data, tmp_path / "out", role="lora", rung="streamed", rank=4)
    assert "an engine does infer alone" in refused(lora)
    assert "neither GGUF nor ONNX" in refused(work(llama, saved, data, tmp_path / "out"))
    local = LocalWork(steps=1, batch=1, seq_len=16, optimizer="adamw", lr=0.1, seed=1)
    train = TrainLocal(
        task="train", role="lora", rung="streamed", rank=2, model=str(llama), data=[str(data)],
        out=str(tmp_path / "trained"), work=local, checkpoint=str(tmp_path / "checkpoint"),
    )  # fmt: skip
    assert refused(train) == f"training wants torch; this worker runs {runtime}."
    assert losses(engine, work(derived, saved, data, tmp_path / "out")) == first

    # A device that holds fewer components measures fewer.
    part = make_adapter(llama, rank=4, tokens=0, slices=2)
    events = engine.do(work(derived, part, data, tmp_path / "out", components=2))
    (told,) = [event for event in events if isinstance(event, Losses)]
    assert [one.rank for one in told.evaluations] == [0, 2, 2]
    assert engine.end() == 0
    assert MARKER.encode() not in engine.written


def test_nothing_that_it_loads_imports_torch() -> None:
    """As on a device that never had torch: here it is there, and no import finds it."""
    code = (
        "import sys; from edge_agent.runtimes import forbid_torch; forbid_torch(); "
        "import edge_agent.worker, edge_agent.inference.tasks, edge_agent.inference.open, "
        "edge_agent.fetch_derived, edge_agent.inference.llama.engine, edge_agent.agent, "
        "edge_agent.inference.onnx.engine; "
        "print(*{'torch', 'transformers', 'peft', 'gguf', 'onnx'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout.strip() == ""
