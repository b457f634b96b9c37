"""Small adapters and updates on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hub.aggregation.contract import Array
from wire.codecs import by_name
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import pack

MakeManifest = Callable[..., AdapterManifest]
Write = Callable[..., Path]


@pytest.fixture
def make_manifest() -> MakeManifest:
    """Return a function that makes a manifest; shapes are (out, in) by target."""

    def make(
        rank: int, shapes: Mapping[str, tuple[int, int]], tokens: int = 0, hidden: int = 3
    ) -> AdapterManifest:
        return AdapterManifest(
            job="test",
            round=0,
            base="0" * 64,
            rank=rank,
            tokens=tokens,
            shapes={
                target: TargetShape(outputs=out, inputs=width)
                for target, (out, width) in shapes.items()
            },
            hidden_size=hidden,
            parts=[],
        )

    return make


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that packs tensors into a file."""

    def write_file(name: str, tensors: Mapping[str, Array], codec: str = "raw") -> Path:
        path = tmp_path / name
        path.write_bytes(pack(tensors, by_name(codec), seed=0))
        return path

    return write_file
