"""Numbers of each type that a model may be stored in, by hand."""

import struct
from pathlib import Path

import numpy as np
import pytest

from wire.errors import MalformedError
from wire.safetensors_header import read_header
from wire.safetensors_numbers import READABLE, read_numbers
from wire.safetensors_writer import write_safetensors

#: 1.0 and -2.5 in each type (IEEE 754; bfloat16 is the upper half of a float32).
BYTES = {
    "F64": struct.pack("<2d", 1.0, -2.5),
    "F32": struct.pack("<2f", 1.0, -2.5),
    "F16": struct.pack("<2H", 0x3C00, 0xC100),
    "BF16": struct.pack("<2H", 0x3F80, 0xC020),
}


@pytest.mark.parametrize("dtype", READABLE)
def test_each_type_gives_its_numbers(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"t": (dtype, (2, 1))}, [BYTES[dtype]])
    found = read_numbers(path, read_header(path)["t"])
    assert found.tolist() == [[1.0], [-2.5]]
    assert found.dtype == {"BF16": np.float32, "F32": np.float32}.get(dtype, found.dtype)


def test_a_file_that_shrank_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"t": ("F32", (2,))}, [BYTES["F32"]])
    stored = read_header(path)["t"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MalformedError, match="cut off"):
        read_numbers(path, stored)
