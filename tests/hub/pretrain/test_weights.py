"""Weights before training, beside those that transformers draws."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from hub.pretrain.weights import write_weights

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 200,
    "pad_token_id": 3,
    "initializer_range": 0.05,
}


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"])
def test_every_tensor_is_drawn_as_transformers_draws_it(tmp_path: Path, family: str) -> None:
    made = transformers.AutoConfig.for_model(family, **SIZES, tie_word_embeddings=False)
    made.save_pretrained(tmp_path)
    write_weights(tmp_path, json.loads((tmp_path / "config.json").read_text()), seed=1)
    found = load_file(tmp_path / "model.safetensors")
    torch.manual_seed(1)
    theirs = dict(transformers.AutoModelForCausalLM.from_config(made).named_parameters())
    assert found.keys() == theirs.keys()
    for name, value in found.items():
        other = theirs[name].detach().numpy()
        assert value.shape == other.shape
        if value.ndim == 1:
            assert np.array_equal(value, other), name
            continue
        # Of n numbers the standard deviation is known to about 1/√(2n): 2,048 at least.
        assert value.std() == pytest.approx(other.std(), rel=0.1), name
        assert abs(value.mean()) < 0.01
    assert not found["model.embed_tokens.weight"][3].any()
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == 200


def test_a_seed_fixes_every_byte_and_another_one_none(tmp_path: Path) -> None:
    config = {"model_type": "llama", **SIZES}
    found = []
    for seed in (1, 1, 2):
        write_weights(tmp_path, config, seed)
        found.append((tmp_path / "model.safetensors").read_bytes())
    assert found[0] == found[1]
    assert found[0] != found[2]
