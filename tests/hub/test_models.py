import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from hub.errors import ConfigError, ModelError
from hub.hash_cache import HashCache
from hub.models import load_model, target_shapes

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "tie_word_embeddings": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    save_file({"w": np.zeros(6, np.float16)}, path / "model.safetensors")
    (path / "merges.txt").write_text("a b\n")
    (path / "pytorch_model.bin").write_bytes(b"never served")
    (path / "README.md").write_text("# tiny")
    (path / "onnx").mkdir()
    return path


def test_the_digest_follows_from_names_contents_and_sizes_alone(folder: Path) -> None:
    model = load_model(str(folder), HashCache())
    entries = [
        f'{{"path":"{name}","sha256":"{hashlib.sha256(data).hexdigest()}",'
        f'"size_bytes":{len(data)}}}'
        for name in ("config.json", "merges.txt", "model.safetensors")
        for data in [(folder / name).read_bytes()]
    ]
    by_hand = ('{"files":[' + ",".join(entries) + "]}").encode()
    assert model.manifest.encode() == by_hand
    assert model.digest == hashlib.sha256(by_hand).hexdigest()
    assert model.name == "tiny"
    assert model.ref.digest == model.digest
    assert model.ref.size_bytes == sum(
        (folder / name).stat().st_size
        for name in ("config.json", "merges.txt", "model.safetensors")
    )


def test_shape_and_targets_come_from_the_config_and_the_weights(folder: Path) -> None:
    model = load_model(str(folder), HashCache())
    assert (model.shape.hidden_size, model.shape.weight_bytes) == (8, 2)
    # k_proj maps 8 inputs to one key-value head of 8 / 2 values.
    assert model.targets["model.layers.0.self_attn.k_proj"] == (4, 8)
    assert len(model.targets) == 7


def test_a_file_is_found_by_its_content(folder: Path) -> None:
    model = load_model(str(folder), HashCache())
    merges = hashlib.sha256(b"a b\n").hexdigest()
    assert model.path_of(merges) == folder / "merges.txt"
    assert model.path_of(hashlib.sha256(b"never served").hexdigest()) is None


def test_targets_are_chosen_by_the_ends_of_their_paths(folder: Path) -> None:
    model = load_model(str(folder), HashCache())
    assert model.chosen_targets("all-linear") == model.targets
    # In the model's order, whatever the order of the names.
    assert list(model.chosen_targets(["mlp.up_proj", "q_proj"])) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.up_proj",
    ]
    for name in ("query", "proj", "p_proj"):
        with pytest.raises(
            ConfigError, match="allowed is all-linear or any of down_proj"
        ) as caught:
            model.chosen_targets([name])
        assert caught.value.path == "lora.targets"


def test_a_layer_may_have_a_lower_rank() -> None:
    targets = {"layers.0.q_proj": (4, 8), "layers.1.q_proj": (4, 8), "layers.1.up_proj": (9, 8)}
    # The first end that fits counts.
    shapes = target_shapes(targets, {"layers.0.q_proj": 1, "q_proj": 2})
    assert [one.rank for one in shapes.values()] == [1, 2, 0]
    assert (shapes["layers.1.up_proj"].outputs, shapes["layers.1.up_proj"].inputs) == (9, 8)
    with pytest.raises(ConfigError, match="gives every layer a rank of its own"):
        target_shapes(targets, {"q_proj": 2, "up_proj": 4})
    with pytest.raises(ConfigError, match=r"rank_pattern\.proj fits no layer .* q_proj, up_proj"):
        target_shapes(targets, {"proj": 2})


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _unknown_family(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "bert"}))


def _cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _quantised(folder: Path) -> None:
    save_file({"w": np.zeros(6, np.int8)}, folder / "model.safetensors")


def _odd_name(folder: Path) -> None:
    (folder / "my notes.txt").write_text("x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_config, "config.json is missing"),
        (_no_weights, r"weights \(\*.safetensors\) are missing"),
        (_missing_shard, "model-2.safetensors is missing"),
        (_broken_config, "config.json can't be read"),
        (_unknown_family, "model_type is 'bert'"),
        (_cut_short, "cut short"),
        (_quantised, "stored as I8; allowed is BF16, F16 or F32"),
        (_odd_name, "'my notes.txt' has characters"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(folder: Path, spoil: Any, words: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(folder), HashCache())
    assert caught.value.path == "model.base"
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("base", ["./none", "/none/at/all", "../x", "a/b/c", "~/none", "m.gguf"])
def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(base: str) -> None:
    def download(_: str) -> str:
        raise AssertionError("must not be called")

    with pytest.raises(ModelError, match="no such folder"):
        load_model(base, HashCache(), download)


def test_a_file_is_not_a_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="a file"):
        load_model(str(folder / "config.json"), HashCache())


def test_an_id_is_fetched_and_named_by_itself(folder: Path) -> None:
    model = load_model("acme/tiny-llama", HashCache(), lambda _: str(folder))
    assert model.name == "acme/tiny-llama"
    assert model.digest == load_model(str(folder), HashCache()).digest


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("Name or service not known"), OSError("offline"), ValueError("bad")],
)
def test_without_internet_an_id_is_refused_with_the_reason(error: Exception) -> None:
    def download(_: str) -> str:
        raise error

    with pytest.raises(ModelError, match="can't be fetched from Hugging Face") as caught:
        load_model("acme/tiny-llama", HashCache(), download)
    assert str(error) in str(caught.value)


def test_huggingface_hub_itself_says_so_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="can't be fetched from Hugging Face"):
        load_model("lorikeet-tests/no-such-model", HashCache())
