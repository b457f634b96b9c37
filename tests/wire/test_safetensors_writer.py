"""What is written is read back with the safetensors library itself."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from wire.safetensors_header import read_header
from wire.safetensors_writer import write_safetensors

ENTRIES = {"a": ("F32", (2, 3)), "b": ("U8", (5,)), "c": ("F64", (0, 4))}
A = np.arange(6, dtype="<f4").reshape(2, 3)
DATA = [A.data, b"\x01\x02\x03\x04\x05", b""]


def test_the_library_reads_the_same_tensors(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    write_safetensors(file, ENTRIES, iter(DATA), {"format": "pt"})
    found = load_file(file)
    assert found["a"].tolist() == A.tolist()
    assert found["b"].tolist() == [1, 2, 3, 4, 5]
    assert found["c"].shape == (0, 4)
    with safe_open(file, "np") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert read_header(file).keys() == ENTRIES.keys()


def test_tensors_are_asked_for_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    class Piece(bytearray):
        def __del__(self) -> None:
            alive.pop()

    def data():  # type: ignore[no-untyped-def]
        for _ in range(5):
            alive.append(1)
            assert len(alive) <= 2  # the one that was written, and this one
            yield Piece(8)

    write_safetensors(tmp_path / "x", {str(at): ("F64", (1,)) for at in range(5)}, data())
    assert not alive


@pytest.mark.parametrize("data", [[A.data], [*DATA, b""], [A.data, b"1234", b""]])
def test_data_that_is_not_as_told_leaves_the_earlier_file(
    tmp_path: Path, data: list[bytes]
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"earlier")
    with pytest.raises(ValueError, match=r"argument|bytes"):
        write_safetensors(file, ENTRIES, data)
    assert file.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_what_a_killed_writer_left_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    (tmp_path / "x.safetensors.partial").write_bytes(b"half of it")
    write_safetensors(file, ENTRIES, DATA)
    assert load_file(file)["a"].tolist() == A.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
