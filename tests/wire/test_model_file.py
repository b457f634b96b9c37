import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.wire.test_gguf_config import write
from wire.errors import MalformedError, WireError
from wire.model_file import config_of, stored_bytes, weight_files


def save_shards(folder: Path, **mapped: str) -> None:
    for shard in set(mapped.values()):
        names = [name for name, file in mapped.items() if file == shard]
        save_file({name: np.zeros(10, np.float32) for name in names}, folder / shard)
    index = {"weight_map": mapped}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_folder_of_shards_is_one_model(tmp_path: Path) -> None:
    save_shards(tmp_path, a="1.safetensors", b="2.safetensors", c="1.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert [path.name for path in weight_files(tmp_path)] == ["1.safetensors", "2.safetensors"]
    assert stored_bytes(tmp_path) == 3 * 40
    assert config_of(tmp_path) == {"model_type": "llama"}


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert config_of(tmp_path) == {"model_type": "llama"}
    with pytest.raises(WireError, match=r"no weights: neither model.safetensors nor"):
        stored_bytes(tmp_path)


@pytest.mark.parametrize("inside", [False, True])
def test_a_gguf_file_is_a_model_by_itself_or_in_a_folder(tmp_path: Path, inside: bool) -> None:
    file = write(tmp_path / "m.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "not what the file says"}')
    path = tmp_path if inside else file
    assert weight_files(path) == [file]
    assert config_of(path)["model_type"] == "llama"
    assert stored_bytes(path) == 50 * 64 * 4


def test_safetensors_go_before_a_gguf_file_of_the_same_folder(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    save_file({"a": np.zeros(10, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    assert config_of(tmp_path) == {"model_type": "qwen2"}
    assert stored_bytes(tmp_path) == 40


def test_several_gguf_files_are_too_many(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf")
    write(tmp_path / "b.gguf")
    with pytest.raises(WireError, match=r"holds 2 GGUF files\. Name the one"):
        config_of(tmp_path)


@pytest.mark.parametrize("name", ["../1.safetensors", "/etc/passwd", "x.bin", 7, ""])
def test_an_index_names_no_file_outside_of_its_folder(tmp_path: Path, name: object) -> None:
    (tmp_path / "1.safetensors").touch()
    index = {"weight_map": {"a": "1.safetensors", "b": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MalformedError, match="not a shard's file"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_a_map_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(MalformedError, match="no usable weight_map"):
        weight_files(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save_shards(tmp_path, a="1.safetensors", b="2.safetensors")
    (tmp_path / "2.safetensors").unlink()
    with pytest.raises(WireError, match=r"2.safetensors is missing"):
        stored_bytes(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(MalformedError, match=r"config.json is not a JSON object"):
        config_of(tmp_path)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.bin").touch()
    with pytest.raises(WireError, match="nowhere doesn't exist"):
        config_of(tmp_path / "nowhere")
    with pytest.raises(WireError, match="is not a model's folder, nor a GGUF file"):
        config_of(tmp_path / "m.bin")
    (tmp_path / "m.gguf").touch()
    with pytest.raises(MalformedError, match="cut short"):
        config_of(tmp_path / "m.gguf")


def test_a_supervisor_may_ask() -> None:
    code = (
        "import sys, wire.model_file; print(*{'numpy', 'torch', 'safetensors'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
