"""A trained model as a folder, from the base and a packed difference."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from hub.aggregation.contract import GlobalAdapter
from hub.export.whole_folder import export_whole
from hub.hash_cache import HashCache
from hub.models import load_model
from tests.system.small_base import write_base
from wire.codecs import by_name
from wire.manifest import AdapterManifest
from wire.tensors import pack


def test_the_base_is_moved_by_the_adapter(tmp_path: Path) -> None:
    base = load_model(str(write_base(tmp_path / "base")), HashCache())
    manifest = AdapterManifest(
        job="j", round=1, base=base.digest, rank=0, tokens=0, shapes={}, hidden_size=16, parts=[],
        weights=base.weights,
    )  # fmt: skip
    moves = {name: np.full(shape, 0.25, np.float32) for name, shape in base.weights.items()}
    (tmp_path / "packed").write_bytes(pack(moves, by_name("raw"), 0))
    before = load_file(base.folder / "model.safetensors")
    for full, move in ((None, 0.0), (tmp_path / "packed", 0.25)):
        # The second export takes the first one's place.
        export_whole(GlobalAdapter(manifest, (), None, full), tmp_path / "out", base.folder)
        after = load_file(tmp_path / "out" / "model.safetensors")
        assert after.keys() == before.keys() == base.weights.keys()
        assert all(np.array_equal(after[name], value + move) for name, value in before.items())
