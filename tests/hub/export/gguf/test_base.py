"""A base's GGUF file, read back by the agent's own reader and by the `gguf` package."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from bench.export_models import DIGEST, MODELS, save_base
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.open import open_weights
from hub.export.base_type import BaseType
from hub.export.gguf.base import write_base
from wire.errors import MalformedError
from wire.gguf_header import read_header


def whole(weights: Weights, name: str) -> torch.Tensor:
    if len(weights.shapes[name]) == 1:
        return weights.vector(name)
    return torch.cat([piece.clone() for _, piece in weights.pieces(name)])


def logits(model: transformers.PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(2 * 60).view(2, 60) % 290
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("name", MODELS)
def test_what_the_agent_reads_back_is_the_model(tmp_path: Path, name: str) -> None:
    """Weights are float16 here, so nothing is lost; the judge is transformers."""
    model = save_base(tmp_path / "base", *MODELS[name], dtype=torch.float16)
    problem = write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST)
    assert problem == "base has no tokenizer.json."
    weights = open_weights(tmp_path / "base.gguf", torch.float32)
    made = transformers.AutoConfig.for_model(
        **{key: value for key, value in weights.config.items() if value is not None}
    )
    if weights.config.get("sliding_window", 1) is None:
        made.sliding_window = None
    again = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager")
    found = again.load_state_dict({n: whole(weights, n) for n in weights.shapes}, strict=False)
    assert found.unexpected_keys == []
    assert found.missing_keys in ([], ["lm_head.weight"])
    again.tie_weights()
    expected = logits(model)
    torch.testing.assert_close(
        logits(again.eval()), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )


@pytest.mark.parametrize(
    ("stored", "kinds"),
    [
        (BaseType.F16, {"F32", "F16"}),
        (BaseType.Q8_0, {"F32", "Q8_0"}),
        (BaseType.Q4_0, {"F32", "Q4_0", "Q8_0"}),
    ],
)
def test_each_tensor_is_what_the_gguf_package_makes_of_it(
    tmp_path: Path, stored: BaseType, kinds: set[str]
) -> None:
    save_base(tmp_path / "base", *MODELS["qwen3"])
    write_base(tmp_path / "base", tmp_path / "base.gguf", stored, DIGEST)
    weights = load_file(tmp_path / "base" / "model.safetensors")
    reader = gguf.GGUFReader(tmp_path / "base.gguf")
    assert {one.tensor_type.name for one in reader.tensors} == kinds
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 3)
    by_name = {one.name: one for one in reader.tensors}
    assert len(by_name) == len(weights) - ("lm_head.weight" in weights)
    for name, values in weights.items():
        one = by_name[names.get_name(name, try_suffixes=(".weight",))]
        np.testing.assert_array_equal(one.data, gguf.quants.quantize(values, one.tensor_type))
    # The head is tied to the embeddings, and 4 bits would be too few for it.
    assert by_name["token_embd.weight"].tensor_type.name == ("F16" if stored == "f16" else "Q8_0")


def test_rows_that_no_block_fits_stay_in_float16(tmp_path: Path) -> None:
    save_base(tmp_path / "base", "llama", {"intermediate_size": 80})
    write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.Q4_0, DIGEST)
    tensors = read_header(tmp_path / "base.gguf").tensors
    assert tensors["blk.0.ffn_down.weight"].kind == "F16"
    assert tensors["blk.0.ffn_up.weight"].kind == "Q4_0"


def test_the_same_base_gives_the_same_bytes_and_carries_its_digest(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_base(tmp_path / "base", tmp_path / name / "base.gguf", BaseType.Q8_0, DIGEST)
    one, two = (tmp_path / name / "base.gguf" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert read_header(one).metadata["lorikeet.base.sha256"] == DIGEST
    assert [path.name for path in one.parent.iterdir()] == ["base.gguf"]


@pytest.mark.parametrize(
    ("family", "special", "held", "window"),
    [
        ("mistral", {"sliding_window": 40}, 40, 40),
        ("phi3", {"sliding_window": 40}, 40, 40),
        ("phi3", {"sliding_window": None}, 256, 0),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 40}, 40, 40),
        ("gemma2", {"sliding_window": 40, "query_pre_attn_scalar": 16, "head_dim": 16}, 256, 40),
    ],
)  # fmt: skip
def test_text_is_no_longer_than_a_window_that_llama_cpp_would_not_keep(
    tmp_path: Path, family: str, special: dict[str, object], held: int, window: int
) -> None:
    save_base(tmp_path / "base", family, special)
    write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST)
    metadata = read_header(tmp_path / "base.gguf").metadata
    prefix = metadata["general.architecture"]
    assert metadata[f"{prefix}.context_length"] == held
    assert metadata[f"{prefix}.attention.sliding_window"] == window


@pytest.mark.parametrize(
    ("family", "special", "words"),
    [
        ("gemma2", {"head_dim": 16, "query_pre_attn_scalar": 12}, "query_pre_attn_scalar is 12"),
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
         "rope_type is 'dynamic'"),
        ("qwen3", {"attention_bias": True}, "no model.layers.0.self_attn.o_proj.bias"),
        ("llama", {"hidden_act": "gelu"}, "the activation is 'gelu'"),
        ("qwen2", {"head_dim": 32}, "4 heads of 32"),
    ],
)  # fmt: skip
def test_what_llama_cpp_computes_otherwise_is_refused(
    tmp_path: Path, family: str, special: dict[str, object], words: str
) -> None:
    save_base(tmp_path / "base", family, special)
    with pytest.raises(MalformedError, match=words):
        write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST)
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize("wrong", [float("nan"), 1e6])
def test_numbers_that_the_type_can_not_hold_are_refused(tmp_path: Path, wrong: float) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    path = tmp_path / "base" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = wrong
    save_file(weights, path)
    with pytest.raises(MalformedError, match=r"blk\.1\.ffn_up\.weight has entries that F16"):
        write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST)
    assert not list(tmp_path.glob("*.gguf*"))
