"""What is written is read back by our own reader and by the ``gguf`` package."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from wire.errors import MalformedError
from wire.gguf_adapter import write_gguf_adapter
from wire.gguf_header import read_header

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.float32([[0.5, -1.0], [2.0, 0.25], [3.0, 4.0], [-5.0, 6.0], [7.0, 8.0]])
TENSORS = {"blk.0.attn_q.weight.lora_a": A, "blk.0.attn_q.weight.lora_b": B}
SHAPES = {name: value.shape for name, value in TENSORS.items()}


def test_the_gguf_package_reads_what_was_written(tmp_path: Path) -> None:
    with (tmp_path / "a.gguf").open("wb") as file:
        write_gguf_adapter(file, "llama", SHAPES, TENSORS.__getitem__)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {
        key: reader.get_field(key).contents()
        for key in reader.fields
        if "." in key and not key.startswith("GGUF")
    } == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.0,
    }
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    assert list(found) == list(TENSORS)
    for name, value in TENSORS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value)


def test_our_own_reader_finds_the_numbers_where_it_says(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    with path.open("wb") as file:
        write_gguf_adapter(file, "qwen3", SHAPES, TENSORS.__getitem__)
    header = read_header(path)
    assert header.metadata["general.architecture"] == "qwen3"
    data = path.read_bytes()
    for name, value in TENSORS.items():
        tensor = header.tensors[name]
        assert (tensor.shape, tensor.start % 32) == (value.shape, 0)
        stored = np.frombuffer(data, "<f4", value.size, tensor.start).reshape(value.shape)
        np.testing.assert_array_equal(stored, value)


def test_an_adapter_of_nothing_is_a_file(tmp_path: Path) -> None:
    with (tmp_path / "a.gguf").open("wb") as file:
        write_gguf_adapter(file, "llama", {}, TENSORS.__getitem__)
    assert not read_header(tmp_path / "a.gguf").tensors


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.gguf").open("wb") as file, pytest.raises(MalformedError, match=r"\[2, 3\]"):
        write_gguf_adapter(file, "llama", {"x": (3, 2)}, lambda _: A)
