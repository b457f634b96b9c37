"""A base with its weights moved, by hand and as transformers loads it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from wire.errors import MalformedError
from wire.shape import parameter_shapes
from wire.whole_model import BaseWeights, write_whole

SHAPES = {"w.weight": (1, 3), "norm.weight": (3,)}
MOVES = {"w.weight": np.array([[1, 0, -2]], np.float32), "norm.weight": np.ones(3, np.float32)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    tensors = {
        "w.weight": np.array([[1, 2, 3]], np.float16),
        "norm.weight": np.array([0.5, 0, 0], np.float32),
        "inv_freq": np.zeros(2, np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"torch_dtype": "float16", "hidden_size": 3}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "notes.md").write_text("not for devices")
    return folder


def test_every_weight_is_the_sum_in_float32(base: Path, tmp_path: Path) -> None:
    write_whole(tmp_path / "out", base, MOVES.__getitem__, SHAPES)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {name: value.dtype for name, value in found.items()} == dict.fromkeys(SHAPES, np.float32)
    assert found["w.weight"].tolist() == [[2, 2, 1]]
    assert found["norm.weight"].tolist() == [1.5, 1, 1]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"hidden_size": 3, "dtype": "float32"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}


def test_shards_become_one_file(base: Path, tmp_path: Path) -> None:
    (base / "model.safetensors").unlink()
    for number, name in enumerate(SHAPES):
        save_file({name: MOVES[name]}, base / f"part-{number}.safetensors")
    index = {"weight_map": {name: f"part-{n}.safetensors" for n, name in enumerate(SHAPES)}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    write_whole(tmp_path / "out", base, MOVES.__getitem__, SHAPES)
    assert load_file(tmp_path / "out" / "model.safetensors")["w.weight"].tolist() == [[2, 0, -4]]
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()


def test_a_base_of_other_tensors_is_refused(base: Path) -> None:
    with pytest.raises(MalformedError, match=r"has no tensor head\.weight"):
        BaseWeights(base, {**SHAPES, "head.weight": (3, 3)})
    with pytest.raises(MalformedError, match=r"norm\.weight as F32 \[3\].*says \[4\]"):
        BaseWeights(base, {**SHAPES, "norm.weight": (4,)})


def test_a_sum_beyond_float32_leaves_no_model(base: Path, tmp_path: Path) -> None:
    def endless(name: str) -> np.ndarray:
        return np.full(SHAPES[name], np.inf, np.float32)

    with pytest.raises(MalformedError, match="leaves the range"):
        write_whole(tmp_path / "out", base, endless, SHAPES)
    assert not (tmp_path / "out" / "config.json").exists()
    assert not list((tmp_path / "out").glob("*.safetensors*"))


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_what_is_written(tmp_path: Path, tied: bool) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    made = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=40, tie_word_embeddings=tied, dtype="bfloat16",
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(made).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    shapes = parameter_shapes(json.loads((tmp_path / "base" / "config.json").read_text()))

    def one(name: str) -> np.ndarray:
        return np.ones(shapes[name], np.float32)

    write_whole(tmp_path / "out", tmp_path / "base", one, shapes)
    found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    wanted = dict(model.named_parameters())
    assert dict(found.named_parameters()).keys() == wanted.keys()
    for name, value in found.named_parameters():
        assert torch.equal(value, wanted[name].float() + 1)
