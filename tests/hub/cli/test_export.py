"""Exports for engines, fetched from a hub over HTTP."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bench.export_models import MODELS, save_adapter, save_base
from hub.hash_cache import HashCache
from hub.models import load_model
from tests.hub.api.served import JOB, MemoryHub
from tests.hub.cli.conftest import Run
from wire.gguf_header import read_header
from wire.peft_folder import write_prefix, write_prompt


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_base(tmp_path / "base", *MODELS["llama"], dtype=torch.bfloat16)
    return tmp_path / "base"


@pytest.fixture
def published(hub: MemoryHub, base: Path) -> MemoryHub:
    model = load_model(str(base), HashCache())
    hub.manifest = model.manifest.encode()
    for path in base.iterdir():
        hub.add_blob(path.read_bytes())
    hub.submit_job(JOB)
    hub.show_job("notes")  # ends a round
    save_adapter(hub.folder / "adapter", base)
    return hub


def add_prompt(hub: MemoryHub) -> np.ndarray:
    prompt = np.arange(128, dtype=np.float32).reshape(2, 64)
    write_prompt(hub.folder / "adapter" / "prompt", prompt, "base")
    return prompt


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export(run: Run, out: Path, *options: str):
    return run("adapter", "export", "notes", "--out", str(out), "--json", *options)


def test_base_and_adapter_become_gguf_files(run: Run, published: MemoryHub, tmp_path: Path) -> None:
    out = tmp_path / "new" / "gguf"
    document = export(run, out, "--format", "gguf", "--base-type", "q8_0").document
    digest = hashlib.sha256(published.manifest).hexdigest()
    assert document["files"] == ["adapter.gguf", "base-q8_0.gguf"]
    assert document["base"] == digest
    assert document["sha256"] == {name: sha256(out / name) for name in document["files"]}
    for name in document["files"]:
        assert read_header(out / name).metadata["lorikeet.base.sha256"] == digest
    assert read_header(out / "base-q8_0.gguf").tensors["blk.0.attn_q.weight"].kind == "Q8_0"
    assert "takes ids alone" in document["notes"][0]  # the model has no tokenizer
    assert [path.name for path in out.parent.iterdir()] == ["gguf"]


def test_base_and_adapter_become_onnx_files(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    prompt = add_prompt(published)
    out = tmp_path / "out"
    document = export(run, out, "--format", "onnx", "--base-type", "q4").document
    graph = ["adapter.onnx_adapter", "base-q4.onnx", "base-q4.onnx.data"]
    assert document["files"] == [*graph, "config.json", "generation_config.json"]
    assert document["sha256"] == {name: sha256(out / name) for name in document["files"]}
    assert document["notes"] == []
    assert document["base"].encode() in (out / "base-q4.onnx").read_bytes()
    assert prompt.tobytes() in (out / "adapter.onnx_adapter").read_bytes()
    local = tmp_path / "two"
    options = ("--format", "onnx", "--base-type", "q4", "--base", str(base))
    assert export(run, local, *options).document["sha256"] == document["sha256"]


def test_the_onnx_adapter_alone_leaves_a_prefix_beside_it(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    prefix = {
        f"prefix.{layer}.{kind}": np.ones((2, 4, 16), np.float32)
        for layer in range(3)
        for kind in ("key", "value")
    }
    write_prefix(published.folder / "adapter" / "prompt", prefix, "base")
    published.blobs = {sha256(base / "config.json"): published.blobs[sha256(base / "config.json")]}
    document = export(run, tmp_path / "out", "--format", "onnx", "--adapter-only").document
    assert document["files"] == ["adapter.onnx_adapter", "prefix.safetensors"]
    assert "it stands in prefix.safetensors" in document["notes"][0]


@pytest.mark.parametrize(
    ("format_", "stored", "known"),
    [("onnx", "q8_0", "f32, f16, q4"), ("gguf", "q4", "f16, q8_0, q4_0, q4_k_m")],
)
def test_a_type_of_another_format_is_refused(
    run: Run, published: MemoryHub, tmp_path: Path, *, format_: str, stored: str, known: str
) -> None:
    ended = export(run, tmp_path / "out", "--format", format_, "--base-type", stored)
    assert ended.code == 2
    assert f"--base-type is {stored}; {format_} has {known}." in ended.err


def test_two_exports_are_the_same_and_a_local_base_is_as_good(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    fetched = export(run, tmp_path / "one", "--format", "gguf").document
    published.blobs.clear()
    local = export(run, tmp_path / "two", "--format", "gguf", "--base", str(base)).document
    assert fetched["sha256"] == local["sha256"]


def test_the_adapter_alone_needs_no_weights_of_the_base(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    prompt = add_prompt(published)
    published.blobs = {sha256(base / "config.json"): published.blobs[sha256(base / "config.json")]}
    document = export(run, tmp_path / "out", "--format", "gguf", "--adapter-only").document
    assert document["files"] == ["adapter.gguf", "prompt.safetensors"]
    assert document["notes"] == ["GGUF has no place for a prompt; it stands in prompt.safetensors."]
    with safe_open(tmp_path / "out" / "prompt.safetensors", "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("prompt"), prompt)
        assert file.metadata()["lorikeet.base.sha256"] == document["base"]


def test_a_merged_model_has_the_bases_files(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    document = export(run, tmp_path / "out", "--format", "merged").document
    assert set(document["files"]) == {path.name for path in base.iterdir()}
    assert load_model(str(tmp_path / "out"), HashCache()).digest != document["base"]


def test_a_prompt_alone_is_not_merged(run: Run, published: MemoryHub, tmp_path: Path) -> None:
    add_prompt(published)
    for path in (published.folder / "adapter").glob("*.*"):
        path.unlink()
    ended = export(run, tmp_path / "out", "--format", "merged")
    assert ended.code == 1
    assert "a prompt alone can't be merged" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_model_whose_weights_were_all_trained_needs_no_base(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    published.blobs.clear()
    shutil.rmtree(published.folder / "adapter")
    shutil.copytree(base, published.folder / "adapter")
    document = export(run, tmp_path / "out", "--format", "gguf").document
    assert document["files"] == ["model-f16.gguf"]
    document = export(run, tmp_path / "onnx", "--format", "onnx").document
    assert document["files"][-2:] == ["model-f16.onnx", "model-f16.onnx.data"]
    for options in (["gguf", "--adapter-only"], ["onnx", "--adapter-only"], ["merged"]):
        ended = export(run, tmp_path / "more", "--format", *options)
        assert (ended.code, "all weights were trained" in ended.err) == (1, True)


def test_people_read_what_to_know(run: Run, published: MemoryHub, tmp_path: Path) -> None:
    ended = run("adapter", "export", "notes", "--out", str(tmp_path / "o"), "--format", "gguf")
    assert "adapter.gguf, base-f16.gguf" in ended.out
    assert "Note: base-f16.gguf has no tokenizer" in ended.out


def test_another_base_is_refused(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    (base / "generation_config.json").write_text("{}")
    ended = export(run, tmp_path / "out", "--format", "gguf", "--base", str(base))
    assert ended.code == 2
    assert "the job's base has" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_file_that_arrives_otherwise_is_refused(
    run: Run, published: MemoryHub, base: Path, tmp_path: Path
) -> None:
    published.blobs[sha256(base / "config.json")].write_bytes(b"{}")
    ended = export(run, tmp_path / "exports" / "out", "--format", "gguf")
    assert ended.code == 1
    assert "config.json of the base didn't arrive as it was sent" in ended.err
    assert list((tmp_path / "exports").iterdir()) == []
