"""PEFT itself loads the folders and computes what the factors say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.aggregation.contract import Array, GlobalAdapter
from hub.export.peft_folder import export_peft, write_lora, write_prompt
from wire.codecs import by_name
from wire.manifest import AdapterManifest, TargetShape
from wire.tensors import pack

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

# PEFT 0.21 reads a property that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")

HIDDEN, MLP, RANK, TOKENS = 16, 24, 3, 4
TARGETS = {
    "model.layers.0.self_attn.q_proj": (HIDDEN, HIDDEN),
    "model.layers.1.self_attn.k_proj": (HIDDEN // 2, HIDDEN),  # two heads share one key head
    "model.layers.0.mlp.gate_proj": (MLP, HIDDEN),
    "model.layers.1.mlp.down_proj": (HIDDEN, MLP),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_llama() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    return transformers.LlamaForCausalLM(config).eval()


def lora_tensors() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    tensors: dict[str, Array] = {}
    for target, (out, width) in TARGETS.items():
        tensors[f"{target}.lora_A"] = rng.normal(size=(RANK, width)).astype(np.float32)
        tensors[f"{target}.lora_B"] = rng.normal(size=(out, RANK)).astype(np.float32)
    return tensors


def logits(model: Any, **inputs: Any) -> Any:
    with torch.no_grad():
        return model(**inputs).logits


INPUT = [[1, 5, 9, 2, 30]]


def test_peft_adds_exactly_b_a(tmp_path: Path) -> None:
    tensors = lora_tensors()
    write_lora(tmp_path / "adapter", tensors, "base")
    by_hand = tiny_llama()
    for target in TARGETS:
        change = tensors[f"{target}.lora_B"] @ tensors[f"{target}.lora_A"]
        by_hand.get_submodule(target).weight.data += torch.from_numpy(change)
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter").eval()
    tokens = torch.tensor(INPUT)
    got, wanted = logits(loaded, input_ids=tokens), logits(by_hand, input_ids=tokens)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted, logits(tiny_llama(), input_ids=tokens), atol=1e-2)


def test_peft_adapts_the_targets_and_nothing_else(tmp_path: Path) -> None:
    write_lora(tmp_path, lora_tensors(), "base")
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path)
    adapted = {
        name.removeprefix("base_model.model.")
        for name, module in loaded.named_modules()
        if hasattr(module, "lora_A")
    }
    assert adapted == set(TARGETS)


def test_peft_puts_the_soft_prompt_before_the_text(tmp_path: Path) -> None:
    prompt = np.random.default_rng(2).normal(size=(TOKENS, HIDDEN)).astype(np.float32)
    write_prompt(tmp_path / "prompt", prompt, "base")
    base, tokens = tiny_llama(), torch.tensor(INPUT)
    embedded = base.get_input_embeddings()(tokens)
    whole = torch.cat([torch.from_numpy(prompt)[None], embedded], dim=1)
    wanted = logits(base, inputs_embeds=whole)
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path / "prompt").eval()
    got = logits(loaded, input_ids=tokens, attention_mask=torch.ones_like(tokens))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


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
    export_peft(GlobalAdapter(manifest, lora, prompt), tmp_path / "out", "./models/base")

    written = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert set(written) == {f"base_model.model.{name}.weight" for name in tensors}
    name = "model.layers.0.mlp.gate_proj.lora_A"
    np.testing.assert_array_equal(written[f"base_model.model.{name}.weight"], tensors[name])
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (RANK, RANK)
    assert config["base_model_name_or_path"] == "./models/base"
    stored = load_file(tmp_path / "out" / "prompt" / "adapter_model.safetensors")
    np.testing.assert_array_equal(stored["prompt_embeddings"], soft)


def test_an_adapter_without_a_prompt_has_no_prompt_folder(tmp_path: Path) -> None:
    manifest = AdapterManifest(
        job="test", round=0, base="0" * 64, rank=1, tokens=0,
        shapes={"q": TargetShape(outputs=2, inputs=2)}, hidden_size=2, parts=[],
    )  # fmt: skip
    lora = tmp_path / "lora"
    factors = {"q.lora_A": np.ones((1, 2), np.float32), "q.lora_B": np.ones((2, 1), np.float32)}
    lora.write_bytes(pack(factors, by_name("raw"), 0))
    export_peft(GlobalAdapter(manifest, lora, None), tmp_path / "out", "base")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_an_array_that_lies_crosswise_in_memory_is_written_row_by_row(tmp_path: Path) -> None:
    crosswise = np.arange(6, dtype=np.float32).reshape(3, 2).T  # (2, 3), column-major
    write_prompt(tmp_path, crosswise, "base")
    stored = load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"]
    np.testing.assert_array_equal(stored, [[0, 2, 4], [1, 3, 5]])


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    write_prompt(tmp_path, np.zeros((2, 3), np.float32), "base")
    write_prompt(tmp_path, np.ones((5, 3), np.float32), "base")
    stored = load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"]
    np.testing.assert_array_equal(stored, np.ones((5, 3)))
    assert not list(tmp_path.glob("*.partial"))
