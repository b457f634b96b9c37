"""SCAFFOLD's correction by hand, from files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_agent.errors import AdapterError
from edge_agent.training.control import Control
from wire.codecs import by_name
from wire.tensors import pack


def packed(path: Path, **tensors: list[list[float]]) -> Path:
    arrays = {name: np.array(value, dtype=np.float32) for name, value in tensors.items()}
    path.write_bytes(pack(arrays, by_name("raw"), 0))
    return path


def test_the_common_one_is_added_and_the_own_one_taken_off(tmp_path: Path) -> None:
    value = torch.zeros(1, 3, requires_grad=True)
    common = packed(tmp_path / "common", prompt=[[1, 2, 3]])
    own = packed(tmp_path / "own", prompt=[[0, 2, 5]])
    control = Control({"prompt": value}, common, own)
    for _ in range(2):
        value.grad = torch.tensor([[1.0, 1.0, 1.0]])
        control.add()
        assert value.grad.tolist() == [[2.0, 1.0, -1.0]]


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    value = torch.zeros(1, 3)
    value.grad = torch.ones(1, 3)
    Control({"prompt": value}, packed(tmp_path / "common", prompt=[[1, 2, 3]]), None).add()
    assert value.grad.tolist() == [[2.0, 3.0, 4.0]]
    Control({"prompt": value}, None, None).add()
    assert value.grad.tolist() == [[2.0, 3.0, 4.0]]


def test_a_file_of_other_shapes_is_refused(tmp_path: Path) -> None:
    value = torch.zeros(2, 3)
    with pytest.raises(AdapterError, match="a control variate"):
        Control({"prompt": value}, packed(tmp_path / "common", prompt=[[1, 2, 3]]), None)
    with pytest.raises(AdapterError, match="a control variate"):
        Control({"prompt": value}, None, tmp_path / "missing")
