"""Packed sets that are read a tensor at a time, more of them than stay open."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hub.aggregation import vectors
from hub.aggregation.vectors import PackedFiles, Vectors
from wire.errors import MalformedError

Write = Callable[..., Path]
SHAPES = {"a": (1, 3), "b": (3,)}


def test_sets_beyond_those_that_stay_open_are_read_as_well(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "KEPT_OPEN", 2)
    paths = [
        write(f"u{k}", {name: np.full(shape, k, np.float32) for name, shape in SHAPES.items()})
        for k in range(4)
    ]
    with PackedFiles(SHAPES) as files:
        for _ in range(2):
            assert [files.get(path, "b").tolist() for path in paths] == [[k] * 3 for k in range(4)]
        assert len(files._open) == 2


def test_another_set_is_refused(write: Write) -> None:
    path = write("other", {"a": np.zeros((1, 3), np.float32)})
    with PackedFiles(SHAPES) as files, pytest.raises(MalformedError):
        files.get(path, "a")


def test_a_tensor_is_made_when_it_is_asked_for() -> None:
    asked: list[str] = []

    def make(name: str) -> np.ndarray:
        asked.append(name)
        return np.zeros(SHAPES[name], np.float32)

    found = Vectors(SHAPES, make)
    assert (len(found), list(found), found.shapes) == (2, ["a", "b"], SHAPES)
    assert asked == []
    assert found["b"].shape == (3,)
    assert asked == ["b"]
    with pytest.raises(KeyError):
        found["c"]
