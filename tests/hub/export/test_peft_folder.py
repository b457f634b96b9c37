"""A global adapter becomes the folders that `wire.peft_folder` writes."""

import json
from pathlib import Path

import numpy as np
import peft
import torch
from safetensors.numpy import load_file

from hub.aggregation.contract import Array, GlobalAdapter, Slice
from hub.export.peft_folder import export_peft
from wire.codecs import by_name
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import pack

HIDDEN, MLP, RANK, TOKENS = 16, 24, 3, 4
TARGETS = {
    "model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN),
    "model.layers.0.mlp.gate_proj": (MLP, HIDDEN),
    "model.layers.1.mlp.down_proj": (HIDDEN, MLP),
}


def lora_tensors() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    tensors: dict[str, Array] = {}
    for target, (out, width) in TARGETS.items():
        tensors[f"{target}.lora_A"] = rng.normal(size=(RANK, width)).astype(np.float32)
        tensors[f"{target}.lora_B"] = rng.normal(size=(out, RANK)).astype(np.float32)
    return tensors


def test_a_global_adapter_becomes_both_folders(tmp_path: Path) -> None:
    manifest = AdapterManifest(
        job="test",
        round=3,
        base="0" * 64,
        rank=RANK,
        tokens=TOKENS,
        shapes={t: TargetShape(outputs=out, inputs=width) for t, (out, width) in TARGETS.items()},
        hidden_size=HIDDEN,
        parts=[],
    )
    lora, prompt = tmp_path / "lora", tmp_path / "prompt"
    tensors, raw = lora_tensors(), by_name("raw")
    soft = np.ones((TOKENS, HIDDEN), np.float32)
    lora.write_bytes(pack(tensors, raw, 0))
    prompt.write_bytes(pack({"prompt": soft}, raw, 0))
    export_peft(
        GlobalAdapter(manifest, (Slice(lora, RANK),), prompt), tmp_path / "out", "./models/base"
    )

    written = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert set(written) == {f"base_model.model.{name}.weight" for name in tensors}
    name = "model.layers.0.mlp.gate_proj.lora_A"
    np.testing.assert_array_equal(written[f"base_model.model.{name}.weight"], tensors[name])
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (RANK, RANK)
    assert config["base_model_name_or_path"] == "./models/base"
    stored = load_file(tmp_path / "out" / "prompt" / "adapter_model.safetensors")
    np.testing.assert_array_equal(stored["prompt_embeddings"], soft)


def test_layers_of_lower_rank_are_named_in_the_configuration(tmp_path: Path) -> None:
    """PEFT builds its layers by ``rank_pattern``, and takes the tensors that were written."""
    shapes = {"q": TargetShape(outputs=2, inputs=3), "v": TargetShape(outputs=2, inputs=3, rank=1)}
    manifest = AdapterManifest(
        job="test", round=0, base="0" * 64, rank=2, tokens=0, shapes=shapes, hidden_size=2, parts=[]
    )
    tensors = {n: np.ones(s, np.float32) for n, s in manifest.expected_lora(2).items()}
    lora = tmp_path / "lora"
    lora.write_bytes(pack(tensors, by_name("raw"), 0))
    export_peft(GlobalAdapter(manifest, (Slice(lora, 2),), None), tmp_path / "out", "base")
    model = torch.nn.ModuleDict({name: torch.nn.Linear(3, 2, bias=False) for name in shapes})
    config = peft.LoraConfig.from_pretrained(str(tmp_path / "out"))
    tuned = peft.PeftModel(model, config)
    written = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {name: value.shape for name, value in written.items()} == {
        name.replace(".default", ""): tuple(value.shape)
        for name, value in tuned.state_dict().items()
        if "lora_" in name
    }
    assert {tuned.get_submodule(f"base_model.model.{n}").scaling["default"] for n in shapes} == {1}


def test_an_adapter_without_a_prompt_has_no_prompt_folder(tmp_path: Path) -> None:
    manifest = AdapterManifest(
        job="test", round=0, base="0" * 64, rank=1, tokens=0,
        shapes={"q": TargetShape(outputs=2, inputs=2)}, hidden_size=2, parts=[],
    )  # fmt: skip
    lora = tmp_path / "lora"
    factors = {"q.lora_A": np.ones((1, 2), np.float32), "q.lora_B": np.ones((2, 1), np.float32)}
    lora.write_bytes(pack(factors, by_name("raw"), 0))
    export_peft(GlobalAdapter(manifest, (Slice(lora, 1),), None), tmp_path / "out", "base")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
