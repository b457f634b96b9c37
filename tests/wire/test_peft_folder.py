"""PEFT itself loads the folders and computes what the factors say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from wire.peft_folder import Array, write_lora, write_prefix, write_prompt

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


def tiny(family: str, **sizes: int) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **{"num_attention_heads": 2, "num_key_value_heads": 1, **sizes},
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def tiny_llama() -> Any:
    return tiny("llama")


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


@pytest.mark.parametrize(("family", "head_dim"), [("llama", None), ("qwen3", 12), ("gemma2", 12)])
def test_peft_puts_the_prefix_before_every_layers_keys_and_values(
    tmp_path: Path, family: str, head_dim: int | None
) -> None:
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {} if head_dim is None else {"head_dim": head_dim}
    shape = (2, TOKENS, head_dim or HIDDEN // 4)
    rng = np.random.default_rng(3)
    tensors: dict[str, Array] = {
        f"prefix.{layer}.{kind}": rng.normal(size=shape).astype(np.float32)
        for layer in range(2)
        for kind in ("key", "value")
    }
    write_prefix(tmp_path, tensors, "base")
    base, tokens = tiny(family, **sizes), torch.tensor(INPUT)
    cache = transformers.DynamicCache(config=base.config)
    for layer in range(2):
        key, value = (tensors[f"prefix.{layer}.{kind}"] for kind in ("key", "value"))
        cache.update(torch.from_numpy(key)[None], torch.from_numpy(value)[None], layer)
    wanted = logits(base, input_ids=tokens, past_key_values=cache)
    loaded = peft.PeftModel.from_pretrained(tiny(family, **sizes), tmp_path).eval()
    got = logits(loaded, input_ids=tokens, attention_mask=torch.ones_like(tokens))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(wanted, logits(base, input_ids=tokens), atol=1e-3)


def test_a_prefix_of_several_heads_stands_head_by_head(tmp_path: Path) -> None:
    key = np.array([[[1, 2], [5, 6]], [[3, 4], [7, 8]]], np.float32)  # two heads, two positions
    write_prefix(tmp_path, {"prefix.0.key": key, "prefix.0.value": key + 10}, "base")
    stored = load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"]
    wanted = [[1, 2, 3, 4, 11, 12, 13, 14], [5, 6, 7, 8, 15, 16, 17, 18]]
    np.testing.assert_array_equal(stored, wanted)
