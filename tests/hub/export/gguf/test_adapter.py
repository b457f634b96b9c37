"""An adapter's GGUF file: names and order of its factors, and what is refused."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.export_models import DIGEST, FAMILIES, MODELS, save_adapter, save_base
from hub.export.base_type import BaseType
from hub.export.gguf.adapter import write_adapter
from hub.export.gguf.base import write_base
from wire.errors import MalformedError
from wire.gguf_header import read_header
from wire.peft_folder import write_lora


def rows_moved_by_the_converter(values: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of convert_hf_to_gguf.py, which convert_lora_to_gguf.py does to B."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_factor_stands_beside_its_matrix(tmp_path: Path, name: str) -> None:
    save_base(tmp_path / "base", *MODELS[name])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    write_base(tmp_path / "base", tmp_path / "base.gguf", BaseType.F16, DIGEST)
    write_adapter(tmp_path / "adapter", tmp_path / "base", tmp_path / "adapter.gguf", DIGEST)
    base, adapter = (read_header(tmp_path / f"{one}.gguf") for one in ("base", "adapter"))
    assert adapter.metadata["general.type"] == "adapter"
    assert adapter.metadata["adapter.type"] == "lora"
    assert adapter.metadata["adapter.lora.alpha"] == 0
    assert adapter.metadata["general.architecture"] == base.metadata["general.architecture"]
    assert adapter.metadata["lorikeet.base.sha256"] == DIGEST
    factors = set(adapter.tensors)
    for matrix in {one.rpartition(".")[0] for one in factors}:
        out, inputs = base.tensors[matrix].shape
        a, b = (adapter.tensors[f"{matrix}.lora_{factor}"].shape for factor in "ab")
        assert (a[1], b[0], a[0]) == (inputs, out, b[1])
        factors -= {f"{matrix}.lora_a", f"{matrix}.lora_b"}
    assert factors == set()


@pytest.mark.parametrize(("name", "moved"), [("llama", True), ("qwen2", False)])
def test_b_has_the_order_of_the_rows_that_it_adds_to(
    tmp_path: Path, name: str, moved: bool
) -> None:
    save_base(tmp_path / "base", *MODELS[name])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    write_adapter(tmp_path / "adapter", tmp_path / "base", tmp_path / "adapter.gguf", DIGEST)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    read = {one.name: one.data for one in gguf.GGUFReader(tmp_path / "adapter.gguf").tensors}
    for module, part, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        prefix = f"base_model.model.model.layers.1.self_attn.{module}"
        b = stored[f"{prefix}.lora_B.weight"]
        expected = rows_moved_by_the_converter(b, heads) if moved else b
        np.testing.assert_array_equal(read[f"blk.1.{part}.weight.lora_b"], expected)
        np.testing.assert_array_equal(
            read[f"blk.1.{part}.weight.lora_a"], stored[f"{prefix}.lora_A.weight"]
        )


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["phi3"])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    for name in ("one", "two"):
        write_adapter(tmp_path / "adapter", tmp_path / "base", tmp_path / name, DIGEST)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_scale_of_an_adapter_is_part_of_b(tmp_path: Path) -> None:
    """An alpha of twice the rank doubles what PEFT adds."""
    save_base(tmp_path / "base", *MODELS["qwen2"])
    save_adapter(tmp_path / "adapter", tmp_path / "base", ranks=(4,))
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 4', '"lora_alpha": 8'))
    write_adapter(tmp_path / "adapter", tmp_path / "base", tmp_path / "adapter.gguf", DIGEST)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    read = {one.name: one.data for one in gguf.GGUFReader(tmp_path / "adapter.gguf").tensors}
    b = stored["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"]
    np.testing.assert_array_equal(read["blk.0.ffn_up.weight.lora_b"], 2 * b)


@pytest.mark.parametrize(
    ("target", "shape", "words"),
    [
        ("model.layers.0.input_layernorm", (64, 64), "no linear layer of the base's blocks"),
        ("lm_head", (300, 64), "no linear layer of the base's blocks"),
        ("model.layers.7.self_attn.q_proj", (64, 64), "no linear layer of the base's blocks"),
        ("model.layers.0.mlp.up_proj", (64, 96), "64 outputs and 96 inputs; the base has 96 and"),
    ],
)
def test_what_is_no_linear_layer_of_that_base_is_refused(
    tmp_path: Path, target: str, shape: tuple[int, int], words: str
) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    factors = {
        f"{target}.lora_A": np.ones((2, shape[1]), np.float32),
        f"{target}.lora_B": np.ones((shape[0], 2), np.float32),
    }
    write_lora(tmp_path / "adapter", factors, "base")
    with pytest.raises(MalformedError, match=words):
        write_adapter(tmp_path / "adapter", tmp_path / "base", tmp_path / "a.gguf", DIGEST)
    assert not list(tmp_path.glob("a.gguf*"))
