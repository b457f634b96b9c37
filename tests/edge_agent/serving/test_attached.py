"""A server reads what an agent wrote: the newest adapter, whole or made of differences."""

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.errors import AgentError, UsageError
from edge_agent.serving.attached import Attached
from edge_agent.serving_state import Made, ServedJob, ServingState, write_state
from tests.edge_agent.conftest import SavedAdapter
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.frames import follow
from wire.manifest import AdapterPart
from wire.tensors import pack


def _stored(folder: Path, saved: SavedAdapter) -> ServedJob:
    store = BlobStore(folder / "blobs")
    parts = [store.put(path.read_bytes()) for path in saved.parts.values()]
    manifest = store.put(saved.manifest.encode())
    return ServedJob(job="test", round=1, base="0" * 64, manifest=manifest, parts=parts)


@pytest.fixture
def saved(make_adapter: Callable[..., SavedAdapter], llama: Path) -> SavedAdapter:
    return make_adapter(llama, rank=4, tokens=3, slices=2)


def test_an_adapter_is_read_from_its_blobs(tmp_path: Path, saved: SavedAdapter) -> None:
    job = _stored(tmp_path, saved)
    attached = Attached(tmp_path, "")
    assert attached.look() is None
    write_state(tmp_path, ServingState(device="one", http="http://hub:1", jobs=[job]))
    assert attached.look() == job
    assert attached.http == "http://hub:1"
    found = attached.adapter(job)
    assert found.name == job.manifest
    np.testing.assert_array_equal(found.prompt, saved.tensors["prompt"])
    for target, factors in found.factors.items():
        np.testing.assert_array_equal(factors.a, saved.tensors[f"{target}.lora_A"])
        np.testing.assert_array_equal(factors.b, saved.tensors[f"{target}.lora_B"])


def test_parts_are_made_of_differences(
    tmp_path: Path, make_adapter: Callable[..., SavedAdapter], llama: Path
) -> None:
    saved = make_adapter(llama, rank=4, tokens=0)
    ((held, path),) = saved.parts.items()
    store = BlobStore(tmp_path / "blobs")
    expected = saved.manifest.expected_lora(4)
    moves = {name: np.ones(shape, np.float32) for name, shape in expected.items()}
    difference = pack(moves, by_name("raw"), seed=0)
    made = io.BytesIO()
    follow(made, path.read_bytes(), [difference], expected, "raw")
    after = made.getvalue()
    other = BlobStore(tmp_path / "other").put(after)  # its name
    part = AdapterPart(name="lora", sha256=other, size_bytes=len(after), codec="raw")
    manifest = msgspec.structs.replace(saved.manifest, parts=[part])
    job = ServedJob(
        job="test",
        round=2,
        base="0" * 64,
        manifest=store.put(manifest.encode()),
        made=[
            Made(part=other, held=store.put(path.read_bytes()), differences=[store.put(difference)])
        ],
    )
    assert held in job.blobs
    attached = Attached(tmp_path, "test")
    for _ in range(2):  # the second time it is there
        found = attached.adapter(job)
        for target, factors in found.factors.items():
            wanted = saved.tensors[f"{target}.lora_A"] + 1
            np.testing.assert_allclose(factors.a, wanted, rtol=1e-6)
    assert store.path(other) is not None
    assert not list(tmp_path.glob("serving-*"))


def test_a_job_that_was_found_stays_the_one(tmp_path: Path, saved: SavedAdapter) -> None:
    one = _stored(tmp_path, saved)
    other = msgspec.structs.replace(one, job="other", round=9)
    attached = Attached(tmp_path, "")
    write_state(tmp_path, ServingState(device="d", jobs=[one]))
    assert attached.look() == one
    write_state(tmp_path, ServingState(device="d", jobs=[other, one]))
    assert attached.look() == one
    assert Attached(tmp_path, "other").look() == other
    with pytest.raises(UsageError, match="this device has other, test"):
        Attached(tmp_path, "third").look()


def test_a_blob_that_is_gone_is_an_error(tmp_path: Path, saved: SavedAdapter) -> None:
    job = _stored(tmp_path, saved)
    BlobStore(tmp_path / "blobs").delete(job.parts[0])
    with pytest.raises(AgentError, match="is gone"):
        Attached(tmp_path, "").adapter(job)
