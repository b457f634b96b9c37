from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hub.offline.lora_folder import LoraFolder
from tests.hub.offline.folders import SHAPES, plain, random_factors, write_folder
from wire.errors import MalformedError
from wire.safetensors_writer import write_safetensors

Q, DOWN = SHAPES


def test_factors_are_read_with_the_scale_in_b(tmp_path: Path) -> None:
    tensors = random_factors(1, {Q: 2, DOWN: 3})
    folder = LoraFolder(
        write_folder(tmp_path / "a", tensors, rank_pattern={"down_proj": 3}, lora_alpha=3)
    )
    assert (folder.shapes, folder.rank) == (SHAPES, 3)
    read = folder.factors(Q)
    np.testing.assert_array_equal(read.a, tensors[f"base_model.model.{Q}.lora_A.weight"])
    np.testing.assert_array_equal(read.b, 1.5 * tensors[f"base_model.model.{Q}.lora_B.weight"])
    a, b = folder.exact(DOWN)
    assert (a.dtype, b.shape) == (np.float64, (6, 3))


def test_half_precision_is_read_exactly(tmp_path: Path) -> None:
    folder = plain(tmp_path / "a", rank=1, lora_alpha=1)
    # 0x3FC0 is 1.5 in bfloat16: sign 0, exponent 127, mantissa 0.5.
    entries: dict[str, tuple[str, tuple[int, int]]] = {
        "base_model.model.q.lora_A.weight": ("BF16", (1, 2)),
        "base_model.model.q.lora_B.weight": ("F16", (1, 1)),
    }
    data = [np.array([0x3FC0, 0xBFC0], "<u2").tobytes(), np.array([0.25], "<f2").tobytes()]
    write_safetensors(folder / "adapter_model.safetensors", entries, data)
    read = LoraFolder(folder).factors("q")
    assert (read.a.tolist(), read.b.tolist()) == ([[1.5, -1.5]], [[0.25]])


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    folder = plain(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(MalformedError, match="is a pickle"):
        LoraFolder(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    tensors = random_factors(1, dict.fromkeys(SHAPES, 2))
    tensors[f"base_model.model.{Q}.lora_B.weight"][3, 1] = value
    folder = LoraFolder(write_folder(tmp_path / "a", tensors))
    with pytest.raises(MalformedError, match=f"{Q} has entries that are NaN or infinite"):
        folder.factors(Q)


def test_a_scale_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = LoraFolder(plain(tmp_path / "a", lora_alpha=1e39))
    with pytest.raises(MalformedError, match="beyond what float32 holds"):
        folder.factors(Q)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"base_model.model.{Q}.lora_magnitude_vector.weight", "only factors of linear layers"),
        ("base_model.model.embed.lora_embedding_A", "only factors of linear layers"),
        ("lm_head.weight", "only factors of linear layers"),
        ("base_model.model.other.lora_A.weight", "has only A of 'other'"),
    ],
)
def test_tensors_that_are_no_factors_are_refused(tmp_path: Path, name: str, words: str) -> None:
    tensors = random_factors(1, dict.fromkeys(SHAPES, 2))
    tensors[name] = np.ones((2, 8), np.float32)
    with pytest.raises(MalformedError, match="adapter_model") as caught:
        LoraFolder(write_folder(tmp_path / "a", tensors))
    assert words in str(caught.value)


def test_another_rank_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="its configuration says rank 4"):
        LoraFolder(plain(tmp_path / "a", rank=2, r=4))


def test_a_folder_without_factors_is_refused(tmp_path: Path) -> None:
    folder = plain(tmp_path / "a")
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(MalformedError, match="holds no LoRA factors"):
        LoraFolder(folder)
