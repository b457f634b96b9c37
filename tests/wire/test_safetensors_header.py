from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from wire.errors import MalformedError
from wire.safetensors_header import bytes_by_dtype, read_header


def test_bytes_are_counted_by_type(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": np.zeros((2, 3), np.float32),
        "b": np.zeros(5, np.float16),
        "c": np.zeros(1, np.float32),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    assert bytes_by_dtype(path) == {"F32": 28, "F16": 10}


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 20, b"\x02" + bytes(7) + b"[]"])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(MalformedError, match=r"w\.safetensors"):
        bytes_by_dtype(path)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedError, match="cut short"):
        bytes_by_dtype(path)


def write(path: Path, header: str, body_bytes: int = 24) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(body_bytes))
    return path


def test_every_tensor_is_found_where_its_numbers_stand(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.float16),
        "c": np.array(7.0, np.float64),
    }
    save_file(tensors, path)
    found = read_header(path)
    assert {name: entry.dtype for name, entry in found.items()} == {
        "a": "F32",
        "b": "F16",
        "c": "F64",
    }
    data = path.read_bytes()
    for name, value in tensors.items():
        entry = found[name]
        assert entry.shape == value.shape
        assert data[entry.start : entry.start + entry.size_bytes] == value.tobytes()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('"dtype":"F32","shape":[2,3],"data_offsets":[0,20]', r"takes 20 bytes; .* takes 24"),
        ('"dtype":"F33","shape":[2,3],"data_offsets":[0,24]', "unknown type 'F33'"),
        ('"dtype":"F32","shape":[-2,-3],"data_offsets":[0,24]', "impossible shape"),
        ('"dtype":"F32","shape":[0,9999999999999999],"data_offsets":[0,0]', "impossible shape"),
        ('"dtype":"F32","shape":[2,3],"data_offsets":[8,32]', "cut short"),
        ('"dtype":"F32","shape":[2,3],"data_offsets":[-8,16]', "cut short"),
        ('"dtype":"F32","shape":[0],"data_offsets":[8,0]', "cut short"),
        ('"dtype":"F32","shape":"x","data_offsets":[0,24]', "can't be read"),
        ('"dtype":"F32"', "can't be read"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(tmp_path: Path, entry: str, reason: str) -> None:
    path = write(tmp_path / "w.safetensors", f'{{"a":{{{entry}}}}}')
    with pytest.raises(MalformedError, match=reason):
        read_header(path)


def test_numbers_of_four_bits_are_counted(tmp_path: Path) -> None:
    entry = '{"a":{"dtype":"F4","shape":[4,12],"data_offsets":[0,24]}}'
    assert bytes_by_dtype(write(tmp_path / "w.safetensors", entry)) == {"F4": 24}
