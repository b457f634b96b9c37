"""A merged model against PEFT's own merging."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from bench.export_models import DIGEST, FAMILIES, MODELS, save_adapter, save_base
from hub.export.merged import write_merged
from wire.errors import MalformedError
from wire.peft_folder import write_lora

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def merged(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    write_merged(tmp_path / "adapter", tmp_path / "base", out, DIGEST)
    return out


@pytest.mark.parametrize("name", FAMILIES)
def test_a_merged_model_is_what_peft_merges(tmp_path: Path, name: str) -> None:
    model = save_base(tmp_path / "base", *MODELS[name])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    tuned = peft.PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    expected = tuned.merge_and_unload().state_dict()
    out = merged(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(out)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_are_stored_as_the_base_stores_them(tmp_path: Path, dtype: torch.dtype) -> None:
    save_base(tmp_path / "base", *MODELS["llama"], dtype=dtype)
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    before = load_file(tmp_path / "base" / "model.safetensors")
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    after = load_file(merged(tmp_path) / "model.safetensors")
    assert set(after) == set(before)
    changed = "model.layers.2.mlp.down_proj"
    a, b = (factors[f"base_model.model.{changed}.lora_{which}.weight"] for which in "AB")
    # Torch rounds to nearest, ties to even, as must be.
    expected = (before[f"{changed}.weight"].double() + b.double() @ a.double()).to(dtype)
    assert torch.equal(after[f"{changed}.weight"], expected)
    for same in ("model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(after[same], before[same])
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata()["lorikeet.base.sha256"] == DIGEST


def test_shards_and_tokenizer_stay_as_they_are(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", *MODELS["llama"])
    (tmp_path / "base" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "base", max_shard_size="100KB")
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer.model", "README.md"):
        (tmp_path / "base" / name).write_text(name)
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    out = merged(tmp_path)
    expected = {path.name for path in (tmp_path / "base").iterdir()} - {"README.md"}
    assert {path.name for path in out.iterdir()} == expected
    assert len(list(out.glob("*.safetensors"))) > 1
    index = "model.safetensors.index.json"
    assert json.loads((out / index).read_text()) == json.loads(
        (tmp_path / "base" / index).read_text()
    )
    assert transformers.AutoModelForCausalLM.from_pretrained(out).num_parameters() > 0


def test_a_sum_beyond_the_stored_type_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"], dtype=torch.float16)
    factors = {
        "model.layers.0.mlp.up_proj.lora_A": np.full((1, 64), 300, np.float32),
        "model.layers.0.mlp.up_proj.lora_B": np.full((96, 1), 300, np.float32),
    }
    write_lora(tmp_path / "adapter", factors, "base")
    with pytest.raises(MalformedError, match=r"up_proj\.weight leaves the range of F16"):
        merged(tmp_path)
