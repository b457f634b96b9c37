"""The hub that answers HTTP, on a coordinator whose loop is taken over by the test."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from hub.control import LiveHub
from hub.derived.bases import DerivedBases
from hub.errors import ConflictError
from hub.hash_cache import HashCache
from hub.models import ModelFile, ModelManifest, load_model
from hub.rounds.coordinator import Coordinator
from hub.rounds.desk import Call
from hub.store.database import Store
from tests.hub.rounds.test_crowd import coordinator
from tests.system.agent_base import write_trainable_base


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Coordinator]:
    """Yield a coordinator that does what other threads ask of it, and nothing else."""
    made = coordinator(tmp_path, Store(f"sqlite:///{tmp_path}/hub.db"), most=1)
    ends = threading.Event()

    def loop() -> None:
        while not ends.is_set():
            event = made.inbox.get(timeout=60)
            if isinstance(event, Call):
                event.work()

    thread = threading.Thread(target=loop)
    thread.start()
    yield made
    made.inbox.put(Call(ends.set))
    thread.join()


def test_a_kind_that_can_not_be_made_of_a_base_is_announced_no_more(
    tmp_path: Path, running: Coordinator
) -> None:
    folder = write_trainable_base(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    hashes = HashCache()
    derived = DerivedBases(tmp_path / "derived", ["gguf-q8_0", "gguf-q4_0"])
    hub = LiveHub(running, running.desk.store, hashes, derived)
    base = msgspec.structs.replace(load_model(str(folder), hashes), derived=derived.kinds)
    other = msgspec.structs.replace(base, digest="0" * 64)
    jobs = {"one": SimpleNamespace(base=base), "two": SimpleNamespace(base=other)}
    running.jobs.update(jobs)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="relu"):
        for _ in range(600):
            assert hub.derived_base(base.digest, "gguf-q8_0").state == "making"
            time.sleep(0.1)
    assert jobs["one"].base.ref.derived == ["gguf-q4_0"]
    assert jobs["two"].base.ref.derived == ["gguf-q8_0", "gguf-q4_0"]
    assert hub._loaded(str(folder)).derived == ["gguf-q4_0"]  # as a new job would have it
    assert DerivedBases(tmp_path / "derived", derived.kinds).kinds_of(base.digest) == derived.kinds


def test_a_hub_that_starts_without_a_job_of_a_base_keeps_nothing_of_it(tmp_path: Path) -> None:
    place = tmp_path / "derived" / f"{'0' * 64}-gguf-q8_0"
    place.mkdir(parents=True)
    (place / "model.gguf").write_bytes(b"GGUF")
    file = ModelFile(path="model.gguf", sha256="1" * 64, size_bytes=4)
    place.with_name(place.name + ".manifest").write_bytes(ModelManifest(files=[file]).encode())
    store = Store(f"sqlite:///{tmp_path}/hub.db")
    derived = DerivedBases(tmp_path / "derived", ["gguf-q8_0"])
    assert derived.path_of("1" * 64) == place / "model.gguf"
    LiveHub(coordinator(tmp_path, store, most=1), store, HashCache(), derived).restore()
    assert list((tmp_path / "derived").iterdir()) == []
    assert derived.path_of("1" * 64) is None
