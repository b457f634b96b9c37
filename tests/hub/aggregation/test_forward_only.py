"""Updates without backprop at the hub: checked, and taken again to the last bit."""

from pathlib import Path

import numpy as np
import pytest

from hub.aggregation.contract import RefusedUpdateError
from hub.aggregation.forward_only import check_steps, core_shapes, write_cores
from wire.forward_only import MOST_BYTES, Moves, pack_steps
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import PackedFile

MANIFEST = AdapterManifest(
    job="j",
    round=0,
    base="a" * 64,
    rank=4,
    tokens=0,
    shapes={
        "q": TargetShape(inputs=8, outputs=6),
        "k": TargetShape(inputs=8, outputs=6, rank=1),
        "v": TargetShape(inputs=8, outputs=6),
    },
    hidden_size=8,
    parts=[],
)
STEPS = [0.5, -0.25, 0.125, 0.0, 1.0]


def write(folder: Path, data: bytes) -> Path:
    path = folder / "update"
    path.write_bytes(data)
    return path


def test_cores_stand_in_the_order_of_names_each_as_wide_as_its_target_allows() -> None:
    assert core_shapes(MANIFEST, 2) == {"k.core": (1, 1), "q.core": (2, 2), "v.core": (2, 2)}
    assert list(core_shapes(MANIFEST, 2)) == ["k.core", "q.core", "v.core"]


def test_what_a_device_moved_is_what_the_hub_writes_to_the_last_bit(tmp_path: Path) -> None:
    update, out = write(tmp_path, pack_steps(STEPS)), tmp_path / "cores"
    check_steps(update, MANIFEST, 2, 7, steps=5, reach=10.0)
    write_cores(update, out, MANIFEST, 2, 7, steps=5)
    device = Moves(7, [1, 2, 2])
    for step in STEPS:
        device.step(step)
    shapes = core_shapes(MANIFEST, 2)
    with PackedFile.open(out, shapes) as packed:
        found = np.concatenate([packed.get(name).ravel() for name in shapes])
    assert found.tobytes() == device.values().tobytes()


def test_a_core_that_moved_out_of_proportion_is_refused(tmp_path: Path) -> None:
    update = write(tmp_path, pack_steps(STEPS))
    with pytest.raises(RefusedUpdateError, match=r"allows 0\.01"):
        check_steps(update, MANIFEST, 2, 7, steps=5, reach=0.01)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"LKP", "malformed"),
        (pack_steps([*STEPS, 0.5]), "1 to 5 may come"),
        (b"x" * (MOST_BYTES + 1), "at most"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(RefusedUpdateError, match=words):
        check_steps(write(tmp_path, data), MANIFEST, 2, 7, steps=5, reach=10.0)
