"""Sizes of models on disk, with files that safetensors' and gguf's own libraries wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_agent.errors import ModelError
from edge_agent.model_shape import model_shape
from tests.wire.test_gguf_config import write

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
}
# Two tables of 10 x 8, four matrices of 8 x 8, three of 8 x 16, three norms of 8.
MATRICES = 2 * 10 * 8 + 4 * 8 * 8 + 3 * 8 * 16
NORMS = 3 * 8


def save_config(folder: Path, **more: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | more))


def save(folder: Path, kind: torch.dtype, norms: torch.dtype | None = None) -> None:
    """Write a model whose matrices are one long one, which makes no difference here."""
    tensors = {
        "matrices": torch.zeros(MATRICES, dtype=kind),
        "norms": torch.zeros(NORMS, dtype=norms or kind),
    }
    save_file(tensors, folder / "model.safetensors")
    save_config(folder)


@pytest.mark.parametrize(
    ("kind", "stored", "weight_bytes"),
    [(torch.bfloat16, "bf16", 2), (torch.float16, "f16", 2), (torch.float32, "f32", 4)],
)
def test_a_folder_s_files_say_how_its_weights_are_stored(
    tmp_path: Path, kind: torch.dtype, stored: str, weight_bytes: int
) -> None:
    save(tmp_path, kind)
    save_config(tmp_path, dtype="float64")  # the file knows better
    shape = model_shape(tmp_path)
    assert (shape.hidden_size, shape.layers, shape.mlp_size, shape.vocab_size) == (8, 1, 16, 10)
    assert (shape.heads, shape.kv_heads, shape.head_dim) == (2, 2, 4)
    assert shape.parameters == MATRICES + NORMS
    assert (shape.format, shape.stored) == ("safetensors", stored)
    assert shape.stored_bytes == (MATRICES + NORMS) * weight_bytes
    assert shape.weight_bytes == weight_bytes


def test_what_most_bytes_are_in_names_the_file(tmp_path: Path) -> None:
    save(tmp_path, torch.bfloat16, torch.float32)
    shape = model_shape(tmp_path)
    assert shape.stored == "bf16"
    assert shape.stored_bytes == MATRICES * 2 + NORMS * 4


def test_shards_are_one_model(tmp_path: Path) -> None:
    mapped = {"a": "1.safetensors", "b": "2.safetensors"}
    for name, file in mapped.items():
        save_file({name: torch.zeros(100, dtype=torch.float16)}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": mapped}))
    save_config(tmp_path)
    assert model_shape(tmp_path).stored_bytes == 2 * 100 * 2


@pytest.mark.parametrize("named", [".", "config.json"])
@pytest.mark.parametrize(
    ("said", "weight_bytes"),
    [
        ({"torch_dtype": "bfloat16"}, 2),
        ({"dtype": "float16"}, 2),
        ({"dtype": "bfloat16", "torch_dtype": "float32"}, 2),  # the newer key
        ({"dtype": "float32"}, 4),
        ({"dtype": 7}, 4),
        ({}, 4),
    ],
)
def test_a_configuration_alone_will_do(
    tmp_path: Path, named: str, said: dict[str, object], weight_bytes: int
) -> None:
    save_config(tmp_path, **said)
    shape = model_shape(tmp_path / named)
    assert (shape.parameters, shape.weight_bytes) == (MATRICES + NORMS, weight_bytes)
    assert (shape.format, shape.stored, shape.stored_bytes) == ("safetensors", "", 0)


def test_a_configuration_with_its_weights_beside_it_is_the_whole_model(tmp_path: Path) -> None:
    save(tmp_path, torch.bfloat16)
    assert model_shape(tmp_path / "config.json") == model_shape(tmp_path)


def test_weights_that_are_yet_to_come_are_not_missed(tmp_path: Path) -> None:
    save_config(tmp_path, dtype="bfloat16")
    index = {"weight_map": {"a": "1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shape = model_shape(tmp_path)
    assert (shape.weight_bytes, shape.stored_bytes) == (2, 0)


def packed(writer: gguf.GGUFWriter) -> None:
    raw = gguf.quants.quantize(np.ones((512, 64), np.float32), gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("blk.0.any", raw, raw_dtype=gguf.GGMLQuantizationType.Q4_0)


@pytest.mark.parametrize("inside", [False, True])
def test_a_gguf_file_is_a_model_by_itself_or_in_a_folder(tmp_path: Path, inside: bool) -> None:
    file = write(tmp_path / "m.gguf", more=packed)
    shape = model_shape(tmp_path if inside else file)
    assert (shape.model_type, shape.hidden_size, shape.layers) == ("llama", 64, 4)
    assert (shape.format, shape.stored) == ("gguf", "q4_0")
    # 32 numbers take 18 bytes; the table of 50 x 64 is of float32.
    assert shape.stored_bytes == 512 * 64 // 32 * 18 + 50 * 64 * 4
    assert shape.weight_bytes == 1


Break = Callable[[Path], Path]


def nowhere(folder: Path) -> Path:
    return folder / "nowhere"


def endless_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def no_model(folder: Path) -> Path:
    (folder / "m.bin").touch()
    return folder / "m.bin"


def broken_config(folder: Path) -> Path:
    (folder / "config.json").write_text("[]")
    return folder


def impossible_config(folder: Path) -> Path:
    save_config(folder, hidden_size=-8)
    return folder


def other_kind(folder: Path) -> Path:
    save_config(folder, model_type="t5", is_encoder_decoder=True)
    return folder


def no_weights(folder: Path) -> Path:
    save_file({}, folder / "model.safetensors")
    save_config(folder)
    return folder


def cut_short(folder: Path) -> Path:
    save(folder, torch.bfloat16)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    return folder


def cut_gguf(folder: Path) -> Path:
    file = write(folder / "m.gguf")
    file.write_bytes(file.read_bytes()[:-1])
    return file


def two_gguf(folder: Path) -> Path:
    write(folder / "a.gguf")
    write(folder / "b.gguf")
    return folder


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (nowhere, "doesn't exist. Give a model's folder"),
        (endless_name, "File name too long"),
        (no_model, "is not a model's folder, nor a GGUF file"),
        (broken_config, "config.json is not a JSON object"),
        (impossible_config, "hidden_size is -8"),
        (other_kind, "t5 is an encoder-decoder model"),
        (no_weights, "model.safetensors holds no weights. Fetch it again"),
        (cut_short, "model.safetensors was cut short"),
        (cut_gguf, "m.gguf was cut short"),
        (two_gguf, "holds 2 GGUF files. Name the one"),
    ],
)
def test_what_can_t_be_used_is_named_with_the_reason(
    tmp_path: Path, spoil: Break, reason: str
) -> None:
    path = spoil(tmp_path)
    with pytest.raises(ModelError) as told:
        model_shape(path)
    assert str(told.value).startswith(f"--model is {path}: ")
    assert reason in str(told.value)
