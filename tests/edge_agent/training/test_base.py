"""Loading a base: what a folder must have."""

import shutil

import pytest
import torch

from edge_agent.errors import ModelError
from edge_agent.training.base import load_base


@pytest.fixture
def copy(llama, tmp_path):
    return shutil.copytree(llama, tmp_path / "base")


def test_a_base_is_float32_frozen_and_without_dropout(llama):
    base = load_base(llama)
    assert {value.dtype for value in base.model.parameters()} == {torch.float32}
    assert not any(value.requires_grad for value in base.model.parameters())
    assert not base.model.training
    assert base.targets["model.layers.1.mlp.down_proj"] == (32, 48)


def test_bfloat16_weights_are_widened(copy):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(copy)
    model.to(torch.bfloat16).save_pretrained(copy)
    assert next(load_base(copy).model.parameters()).dtype == torch.float32


def test_a_folder_without_weights_is_named_with_what_is_missing(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"base has no weights: neither model\.safetensors nor"):
        load_base(copy)


def test_a_pickle_is_never_read(copy):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle and never read"):
        load_base(copy)


def test_a_damaged_weights_file_is_a_model_error(copy):
    (copy / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="can't be loaded"):
        load_base(copy)


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "can't be read"), ("{", "not JSON"), ("[]", "object"), ("{}", "model_type is None")],
)
def test_a_config_that_says_nothing_is_a_model_error(copy, content, match):
    (copy / "config.json").unlink()
    if content is not None:
        (copy / "config.json").write_text(content)
    with pytest.raises(ModelError, match=match):
        load_base(copy)


def test_a_folder_without_a_tokenizer_is_a_model_error(copy):
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_base(copy)
