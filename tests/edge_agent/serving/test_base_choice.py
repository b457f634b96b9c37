"""The file that an engine here reads is found, preferring what the hub prefers."""

from pathlib import Path
from threading import Event, Timer

import msgspec
import pytest

from edge_agent.errors import StoppedError
from edge_agent.inference.errors import EngineError
from edge_agent.runtimes import LLAMA
from edge_agent.serving import base_choice
from edge_agent.serving.base_choice import base_of
from edge_agent.serving_state import ServedJob
from tests.edge_agent.test_fetch_derived import BASE as MADE_OF
from tests.edge_agent.test_fetch_derived import MAKING, Hub, hub

__all__ = ["hub"]  # a fixture

BASE = "b" * 64


@pytest.fixture(autouse=True)
def _llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_choice, "present_runtimes", lambda: ["torch", LLAMA])


def _place(models: Path, name: str, file: str, complete: bool = True) -> Path:
    folder = models / name
    folder.mkdir(parents=True)
    (folder / file).touch()
    if complete:
        (folder / "complete").touch()
    return folder


def _job(*derived: str) -> ServedJob:
    return ServedJob(job="notes", round=1, base=BASE, derived=list(derived), manifest="m" * 64)


def test_a_base_that_is_gguf_itself(tmp_path: Path) -> None:
    folder = _place(tmp_path, BASE, "base.gguf")
    assert base_of(tmp_path, _job(), None, None, Event()) == folder


def test_what_the_hub_prefers_comes_first(tmp_path: Path) -> None:
    small = _place(tmp_path, f"{BASE}-gguf-q4_0", "base.gguf")
    _place(tmp_path, BASE, "model.safetensors")
    large = _place(tmp_path, f"{BASE}-gguf-q8_0", "base.gguf")
    assert base_of(tmp_path, _job("gguf-q8_0", "gguf-q4_0"), None, LLAMA, Event()) == large
    assert base_of(tmp_path, _job("gguf-q4_0", "gguf-q8_0"), None, LLAMA, Event()) == small


def test_half_a_file_does_not_count(tmp_path: Path) -> None:
    _place(tmp_path, f"{BASE}-gguf-q4_0", "base.gguf", complete=False)
    with pytest.raises(EngineError, match="the hub offers none"):
        base_of(tmp_path, _job("gguf-q4_0"), None, None, Event())


def test_a_derived_file_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(http: str, digest: str, kind: str, folder: str, _: object, *, wait: object) -> int:
        asked.append((http, digest, kind))
        _place(tmp_path, Path(folder).name, "base.gguf")
        return 1

    monkeypatch.setattr(base_choice, "fetch_derived", fetch)
    _place(tmp_path, BASE, "model.safetensors")
    found = base_of(tmp_path, _job("gguf-q4_0", "onnx-f32"), "http://hub:1", None, Event())
    assert found == tmp_path / f"{BASE}-gguf-q4_0"
    assert asked == [("http://hub:1", BASE, "gguf-q4_0")]


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="onnxruntime is not installed"):
        base_of(tmp_path, _job(), None, "onnxruntime", Event())


def test_waiting_for_the_hub_ends_once_it_is_told_to_stop(hub: Hub, tmp_path: Path) -> None:
    hub.answers = [MAKING]
    stop = Event()
    timer = Timer(0.2, stop.set)
    timer.start()
    job = msgspec.structs.replace(_job("gguf-q8_0"), base=MADE_OF)
    with pytest.raises(StoppedError, match="stopped before the base was there"):
        base_of(tmp_path, job, hub.url, None, stop)
    timer.join()


def test_a_download_ends_once_it_is_told_to_stop(hub: Hub, tmp_path: Path) -> None:
    digest = hub.publish({"model-q8_0.gguf": bytes(1000), "tokenizer.json": b"{}"})
    hub.answers = [(200, {"state": "ready", "digest": digest})]
    stop = Event()
    stop.set()
    job = msgspec.structs.replace(_job("gguf-q8_0"), base=MADE_OF)
    with pytest.raises(StoppedError):
        base_of(tmp_path, job, hub.url, None, stop)
    assert ("blobs", None) in hub.asked
    assert len(hub.asked) == 2  # the second file isn't asked for
