"""Difference frames: numbers by hand, and the same bytes for everybody."""

import io
from pathlib import Path

import numpy as np
import pytest

from wire.codecs import by_name
from wire.errors import MalformedError
from wire.frames import follow
from wire.tensors import PackedFile, pack

SHAPES = {"a": (2, 3), "b": (4,)}


def drawn(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (scale * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def packed(tensors: dict[str, np.ndarray], codec: str) -> bytes:
    return pack(tensors, by_name(codec), seed=3)


def followed(whole: bytes | Path, *differences: bytes | Path, codec: str = "bf16") -> bytes:
    out = io.BytesIO()
    follow(out, whole, differences, SHAPES, codec)
    return out.getvalue()


def values(data: bytes) -> dict[str, np.ndarray]:
    with PackedFile.open(data, SHAPES) as file:
        return {name: file.get(name) for name in file.names()}


def test_the_sum_is_rounded_to_the_codec_of_wholes() -> None:
    # Between 2 and 4 a bfloat16 ulp is 2^-6. 2 + 0.01 lies nearer to 2 + 2^-6 than to 2, and
    # 2 + 0.007 nearer to 2.
    before = {"a": np.full((2, 3), 2, np.float32), "b": np.zeros(4, np.float32)}
    change = {"a": np.full((2, 3), 0.01, np.float32), "b": np.full(4, 0.5, np.float32)}
    change["a"][1] = 0.007
    found = values(followed(packed(before, "bf16"), packed(change, "raw")))
    assert found["a"][0].tolist() == [2 + 2**-6] * 3
    assert found["a"][1].tolist() == [2.0] * 3
    assert found["b"].tolist() == [0.5] * 4


def test_a_chain_comes_to_the_same_bytes_as_one_step_after_the_other() -> None:
    whole = packed(drawn(1), "bf16")
    changes = [packed(drawn(seed, 0.1), "entropy") for seed in (2, 3, 4)]
    steps = whole
    for change in changes:
        steps = followed(steps, change)
    assert followed(whole, *changes) == steps


def test_no_differences_only_round() -> None:
    assert followed(packed(drawn(1), "raw")) == packed(drawn(1), "bf16")


def test_files_do_as_well_as_bytes(tmp_path: Path) -> None:
    whole, change = packed(drawn(1), "bf16"), packed(drawn(2), "int8")
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "change").write_bytes(change)
    assert followed(tmp_path / "whole", tmp_path / "change") == followed(whole, change)


def test_a_difference_of_other_tensors_is_refused() -> None:
    other = pack({"a": np.zeros((2, 3), np.float32)}, by_name("raw"), seed=0)
    with pytest.raises(MalformedError):
        followed(packed(drawn(1), "bf16"), other)


def test_a_sum_that_leaves_the_range_is_refused() -> None:
    huge = {name: np.full(shape, 3e38, np.float32) for name, shape in SHAPES.items()}
    with pytest.raises(MalformedError, match="leaves the range"):
        followed(packed(huge, "raw"), packed(huge, "raw"))
