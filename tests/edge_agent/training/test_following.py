"""What the worker makes of differences before a task."""

import io
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import DifferenceError
from edge_agent.protocol import Following, Work
from edge_agent.training.following import follow_all
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.frames import follow
from wire.manifest import AdapterManifest, AdapterPart, TargetShape
from wire.tensors import pack


class Setup:
    """A part before, a difference, and what they come to."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder / "blobs")
        self.out = folder / "work"
        self.out.mkdir()
        shapes = {"q": TargetShape(inputs=6, outputs=5)}
        self.manifest = AdapterManifest(
            job="j", round=2, base="a" * 64, rank=2, tokens=0, shapes=shapes, hidden_size=6,
            parts=[],
        )  # fmt: skip
        expected = self.manifest.expected_lora(2)
        rng = np.random.default_rng(1)
        drawn = [
            {
                name: rng.standard_normal(shape).astype(np.float32)
                for name, shape in expected.items()
            }
            for _ in range(2)
        ]
        whole = pack(drawn[0], by_name("bf16"), seed=0)
        difference = pack(drawn[1], by_name("entropy"), seed=0)
        made = io.BytesIO()
        follow(made, whole, [difference], expected, "bf16")
        self.after = made.getvalue()
        self.held = self.store.put(whole)
        self.difference = self.store.put(difference)

    def work(self, sha256: str) -> tuple[Work, AdapterManifest]:
        part = AdapterPart(name="lora", sha256=sha256, size_bytes=len(self.after), codec="bf16")
        parts = [part]
        manifest = AdapterManifest(
            job="j", round=2, base="a" * 64, rank=2, tokens=0, shapes=self.manifest.shapes,
            hidden_size=6, parts=parts,
        )  # fmt: skip
        following = Following(
            part=sha256,
            held=str(self.store.path(self.held)),
            differences=[str(self.store.path(self.difference))],
        )
        work = Work(
            task="t", role="lora", rung="streamed", rank=2, base_folder="", manifest="", parts={},
            following=[following], blobs=str(self.store.folder), data=[], codec="entropy",
            out=str(self.out), batch=1, seq_len=8,
        )  # fmt: skip
        return work, manifest


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_the_part_is_made_and_kept_for_the_next_difference(setup: Setup) -> None:
    sha256 = setup.store.put(setup.after)
    setup.store.delete(sha256)
    paths = follow_all(*setup.work(sha256))
    assert paths[sha256].read_bytes() == setup.after
    assert setup.store.path(sha256) == paths[sha256]
    assert list(setup.out.iterdir()) == []


def test_what_comes_to_something_else_is_told_and_not_kept(setup: Setup) -> None:
    with pytest.raises(DifferenceError, match="come to"):
        follow_all(*setup.work("e" * 64))
    assert set(setup.store.all()) == {setup.held, setup.difference}


def test_a_damaged_difference_is_told(setup: Setup) -> None:
    path = setup.store.path(setup.difference)
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DifferenceError, match="can't be made"):
        follow_all(*setup.work("e" * 64))


def test_a_part_that_the_manifest_lacks_is_told(setup: Setup) -> None:
    work, _ = setup.work("e" * 64)
    _, other = setup.work("d" * 64)
    with pytest.raises(DifferenceError, match="not in the adapter's manifest"):
        follow_all(work, other)
