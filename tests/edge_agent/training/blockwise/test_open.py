from pathlib import Path

import pytest
import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.open import open_weights


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"pytorch_model.bin is a pickle and never read"):
        open_weights(tmp_path, torch.float32)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere doesn't exist"):
        open_weights(tmp_path / "nowhere", torch.float32)


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match=r"model.safetensors can't be used.*cut short"):
        open_weights(tmp_path, torch.float32)


def test_a_model_of_transformers_is_opened_under_its_own_names(llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    weights = open_weights(llama, torch.float32)
    model = AutoModelForCausalLM.from_pretrained(llama)
    assert weights.config["model_type"] == "llama"
    expected = dict(model.named_parameters())
    assert {name: tuple(value.shape) for name, value in expected.items()} == weights.shapes
    for name, value in expected.items():
        if value.ndim == 1:
            assert torch.equal(weights.vector(name), value)
        else:
            assert torch.equal(torch.cat([p.clone() for _, p in weights.pieces(name)]), value)
