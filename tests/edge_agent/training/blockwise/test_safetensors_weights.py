"""Pieces, vectors and rows against what safetensors itself reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge_agent.errors import ModelError
from edge_agent.training.blockwise import mapped_weights
from edge_agent.training.blockwise.open import open_weights

CONFIG = {"model_type": "llama"}


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_a_matrix_comes_in_pieces_that_make_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: torch.dtype, dtype: torch.dtype
) -> None:
    matrix = numbers(100, 7).to(stored)
    weights = open_weights(save(tmp_path, {"v": numbers(5), "w": matrix}), dtype)
    monkeypatch.setattr(mapped_weights, "PIECE_BYTES", 30 * 7 * dtype.itemsize)
    found = torch.full((100, 7), torch.nan, dtype=dtype)
    ranges = []
    for rows, piece in weights.pieces("w"):
        assert piece.is_contiguous()
        found[rows] = piece
        ranges.append((rows.start, rows.stop))
    assert ranges == [(0, 30), (30, 60), (60, 90), (90, 100)]
    assert torch.equal(found, matrix.to(dtype))
    weights.close()


def test_a_part_of_a_matrix_has_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    matrix = numbers(20, 4)
    weights = open_weights(save(tmp_path, {"w": matrix}), torch.float32)
    ((rows, piece),) = weights.pieces("w", 3, 11)
    assert rows == slice(3, 11)
    assert torch.equal(piece, matrix[3:11])


def test_nothing_is_copied_where_the_types_agree(tmp_path: Path) -> None:
    folder = save(tmp_path, {"w": numbers(20, 4).to(torch.bfloat16)})
    weights = open_weights(folder, torch.bfloat16)
    first = [piece.data_ptr() for _, piece in weights.pieces("w", 2, 3)]
    second = [piece.data_ptr() for _, piece in weights.pieces("w", 5, 6)]
    assert second[0] - first[0] == 3 * 4 * 2


def test_vectors_and_rows_are_copies_of_their_own(tmp_path: Path) -> None:
    tensors = {"v": numbers(9).to(torch.bfloat16), "w": numbers(20, 4).to(torch.bfloat16)}
    weights = open_weights(save(tmp_path, tensors), torch.bfloat16)
    vector, rows = weights.vector("v"), weights.rows("w", torch.tensor([7, 0, 7]))
    weights.close()
    assert vector.dtype == torch.float32
    assert torch.equal(vector, tensors["v"].float())
    assert torch.equal(rows, tensors["w"][[7, 0, 7]])
    vector.zero_()  # and may be written to


def test_a_header_of_odd_length_is_read_all_the_same(tmp_path: Path) -> None:
    folder = save(tmp_path, {"v": numbers(3), "w": numbers(6, 5)})
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    path.write_bytes(
        (length + 3).to_bytes(8, "little") + data[8 : 8 + length] + b"   " + data[8 + length :]
    )
    weights = open_weights(folder, torch.float32)
    ((_, piece),) = weights.pieces("w", 1)
    assert torch.equal(piece, numbers(6, 5)[1:])
    assert torch.equal(weights.vector("v"), numbers(3))
    assert torch.equal(weights.rows("w", torch.tensor([4])), numbers(6, 5)[4:5])


def test_shards_are_one_model(tmp_path: Path) -> None:
    for name in "ab":
        save_file({name: numbers(4, 4)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights = open_weights(tmp_path, torch.float32)
    assert weights.shapes == {"a": (4, 4), "b": (4, 4)}
    assert weights.stored == "f32"
    weights.ahead(["a", "b"])
    assert torch.equal(weights.rows("b", torch.arange(4)), numbers(4, 4))


def test_shards_that_hold_the_same_tensor_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        save_file({"w": numbers(4, 4)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"w": "a.safetensors", "x": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelError, match="another shard"):
        open_weights(tmp_path, torch.float32)


def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, {"w": torch.zeros(8, 8, dtype=torch.uint8), "v": numbers(3)})
    with pytest.raises(ModelError, match="as U8; known are BF16, F16, F32"):
        open_weights(folder, torch.float32)


def test_an_unknown_tensor_and_a_vector_taken_for_a_matrix_are_named(tmp_path: Path) -> None:
    weights = open_weights(save(tmp_path, {"v": numbers(3)}), torch.float32)
    with pytest.raises(ModelError, match=r"no tensor 'lm_head\.weight'"):
        next(weights.pieces("lm_head.weight"))
    with pytest.raises(ModelError, match="a matrix is needed"):
        next(weights.pieces("v"))


_READ_ALL = """
import sys
from pathlib import Path
import torch
from edge_agent.training.blockwise.open import open_weights

def file_pages_kib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0])

weights = open_weights(Path(sys.argv[1]), torch.bfloat16)
for _, piece in weights.pieces("a", 0, 64):  # torch's own code is in memory before it counts
    piece.float().sum().item()
weights.rows("a", torch.arange(4))
before, peak = file_pages_kib(), 0
for name in sorted(weights.shapes):
    for _, piece in weights.pieces(name):
        piece.float().sum().item()
        peak = max(peak, file_pages_kib())
    weights.rows(name, torch.arange(0, weights.shapes[name][0], 50))
print(peak - before, file_pages_kib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_a_whole_file_keeps_only_a_piece_of_it_in_memory(tmp_path: Path) -> None:
    matrix = numbers(4096, 1024).to(torch.bfloat16)
    folder = save(
        tmp_path, {name: matrix.roll(i) for i, name in enumerate("abcdefghijklmnopqrstuvwxy")}
    )
    assert (folder / "model.safetensors").stat().st_size > 200 * 1024**2
    command = [sys.executable, "-c", _READ_ALL, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_kib, left_kib = map(int, run.stdout.split())
    assert peak_kib < 24 * 1024  # a piece is 8 MiB
    assert left_kib < 4 * 1024
