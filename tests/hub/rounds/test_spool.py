"""Tensors that rest on disk until they are packed."""

from pathlib import Path

import numpy as np
import pytest

from hub.rounds.spool import Spool

SHAPES = {"b": (2, 3), "a": (4, 1)}


def test_tensors_are_put_and_read_in_any_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SHAPES)
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    second = np.arange(4, dtype=np.float32).reshape(4, 1)
    spool.put("a", second)
    spool.put("b", first.T.copy().T)  # not contiguous
    for _ in range(2):
        assert spool["b"].tolist() == first.tolist()
        assert spool["a"].tolist() == second.tolist()
    spool.put("b", first + 1)
    assert spool["b"].tolist() == (first + 1).tolist()
    assert spool["a"].tolist() == second.tolist()


def test_another_tensor_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", SHAPES)
    with pytest.raises(ValueError, match=r"b has shape \(3, 2\)"):
        spool.put("b", np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(KeyError):
        spool.put("c", np.zeros((3, 2), dtype=np.float32))
