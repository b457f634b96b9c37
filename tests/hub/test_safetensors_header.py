from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hub.safetensors_header import bytes_by_dtype


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
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        bytes_by_dtype(path)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(100, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        bytes_by_dtype(path)
