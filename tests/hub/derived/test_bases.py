"""Derived bases, made by a real process of their own and read back by the agent's reader."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.api.control import DerivedBase
from hub.derived import bases as bases_module
from hub.derived.bases import DerivedBases
from hub.errors import ConflictError, HubError, NotFoundError
from hub.hash_cache import HashCache
from hub.models import BaseModel, load_model
from tests.system.agent_base import write_trainable_base
from wire.derived import BASE_KEY, DERIVED, USUAL
from wire.gguf_header import read_header


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = write_trainable_base(tmp_path_factory.mktemp("models") / "base")
    return load_model(str(folder), HashCache())


def made(bases: DerivedBases, base: BaseModel, kind: str) -> DerivedBase:
    for _ in range(600):
        found = bases.find(base, kind)
        if found.state == "ready":
            return found
        time.sleep(0.1)
    raise TimeoutError(kind)


def test_a_base_is_made_once_and_named_by_its_content(tmp_path: Path, base: BaseModel) -> None:
    bases = DerivedBases(tmp_path / "derived", USUAL)
    assert bases.find(base, "gguf-q8_0").state == "making"
    found = made(bases, base, "gguf-q8_0")
    data = bases.manifest(found.digest)
    assert data is not None
    assert hashlib.sha256(data).hexdigest() == found.digest
    files = {file["path"]: file for file in json.loads(data)["files"]}
    assert sum(file["size_bytes"] for file in files.values()) == found.total_bytes
    # The tokenizer goes along, the weights as they were don't.
    assert {"model-q8_0.gguf", "tokenizer.json", "config.json"} <= set(files)
    assert not any(name.endswith(".safetensors") for name in files)
    path = bases.path_of(files["model-q8_0.gguf"]["sha256"])
    assert path is not None
    header = read_header(path)
    assert header.metadata[BASE_KEY] == base.digest
    assert "Q8_0" in {tensor.kind for tensor in header.tensors.values()}
    # Another hub of the same state finds it; another kind has another digest.
    again = DerivedBases(tmp_path / "derived", USUAL)
    assert again.find(base, "gguf-q8_0") == found
    assert made(again, base, "gguf-q4_0").digest != found.digest


def test_what_was_cut_off_is_made_again_to_the_same_bytes(tmp_path: Path, base: BaseModel) -> None:
    folder = tmp_path / "derived"
    first = made(DerivedBases(folder, USUAL), base, "gguf-q4_0")
    (record,) = folder.glob("*.manifest")
    record.unlink()  # as if the hub had been killed before it was written
    (folder / "half.part").mkdir()
    again = DerivedBases(folder, USUAL)
    assert list(folder.iterdir()) == []
    assert again.manifest(first.digest) is None
    assert made(again, base, "gguf-q4_0") == first


def test_what_was_made_of_a_base_without_a_job_is_removed(tmp_path: Path, base: BaseModel) -> None:
    folder = tmp_path / "derived"
    digest = made(DerivedBases(folder, USUAL), base, "gguf-q4_0").digest
    bases = DerivedBases(folder, USUAL)
    bases.keep({base.digest, "0" * 64})
    assert bases.manifest(digest) is not None
    bases.keep({"0" * 64})
    assert list(folder.iterdir()) == []
    assert bases.manifest(digest) is None
    assert made(bases, base, "gguf-q4_0").digest == digest


def test_kinds_that_are_not_made_here_are_named(tmp_path: Path, base: BaseModel) -> None:
    with pytest.raises(NotFoundError, match=r"made here are gguf-q8_0 .models.derived."):
        DerivedBases(tmp_path, ["gguf-q8_0"]).find(base, "gguf-f16")
    with pytest.raises(NotFoundError, match="none are made here"):
        DerivedBases(tmp_path, []).find(base, "gguf-f16")
    assert set(USUAL) <= set(DERIVED)


def test_a_base_that_llama_cpp_would_compute_otherwise_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    folder = write_trainable_base(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    strange = load_model(str(folder), HashCache())
    bases = DerivedBases(tmp_path / "derived", USUAL)
    with pytest.raises(ConflictError, match=r"gguf-q8_0 can't be made of this base: .*relu"):
        made(bases, strange, "gguf-q8_0")
    assert list((tmp_path / "derived").iterdir()) == []


def test_a_hub_that_ends_leaves_no_process_behind(tmp_path: Path, base: BaseModel) -> None:
    bases = DerivedBases(tmp_path / "derived", USUAL)
    bases.close()
    with pytest.raises(HubError, match="the hub is ending"):
        made(bases, base, "gguf-q8_0")


class FinishedMeanwhile:
    """A lock that is had only once another thread has done something."""

    def __init__(self, lock: Any, finish: Callable[[], None]) -> None:
        self._lock, self._finish = lock, finish

    def __enter__(self) -> None:
        self._finish()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_what_was_finished_a_moment_ago_is_not_made_again(tmp_path: Path, base: BaseModel) -> None:
    bases = DerivedBases(tmp_path, USUAL)
    first = made(bases, base, "gguf-q8_0")
    known, bases._known = bases._known, {}
    bases._lock = FinishedMeanwhile(bases._lock, lambda: bases._known.update(known))  # type: ignore[assignment]
    assert bases.find(base, "gguf-q8_0") == first


def test_an_unexpected_error_is_told_and_tried_again(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = DerivedBases(tmp_path, USUAL)

    def fails(*_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(bases, "_run", fails)
    with pytest.raises(HubError, match="could not be made: ValueError: odd; it is tried again"):
        for _ in range(100):
            assert bases.find(base, "gguf-q8_0").state == "making"
            time.sleep(0.05)
    monkeypatch.undo()
    monkeypatch.setattr(bases_module, "RETRY_S", 0.0)
    assert made(bases, base, "gguf-q8_0").state == "ready"


def test_a_file_that_goes_while_it_is_measured_does_no_harm(
    tmp_path: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = DerivedBases(tmp_path, USUAL)
    draft = bases._draft(base.digest, "gguf-q8_0")
    draft.mkdir()
    (draft / "model.part").symlink_to(draft / "gone")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", lambda _: True)  # as it was a moment ago
        assert bases._progress(base, "gguf-q8_0").done_bytes == 0
