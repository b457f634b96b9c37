"""A base's graph: ONNX Runtime computes with it what transformers and PEFT compute."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

from bench.export_models import DIGEST, MODELS, save_adapter, save_base
from bench.serving_logits import by_peft, compared
from bench.serving_onnx import adapter_of, by_onnxruntime, exported, measured
from hub.export.base_type import BaseType
from hub.export.onnx.base import write_base
from hub.export.onnx.graph import ALIGNED_BYTES
from wire.errors import MalformedError

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

#: What the models of the bench don't have: windows shorter than the rows, in all blocks or in some.
WINDOWS = {
    "mistral": ("mistral", {"sliding_window": 40}),
    "phi3": ("phi3", {"sliding_window": 40}),
    "qwen2": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    ),
    "gemma2": ("gemma2", {"sliding_window": 24, "query_pre_attn_scalar": 12}),
    "qwen3": ("qwen3", {"attention_bias": True}),
}
ROWS = np.random.default_rng(2).integers(0, 300, (2, 60)).tolist()


def logits(model: transformers.PreTrainedModel) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(ROWS)).logits.flatten(0, 1).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_peft(tmp_path: Path, name: str) -> None:
    """What is left is the order in which float32 numbers are added."""
    found = measured(name, tmp_path)
    assert found.worst <= 2e-5
    assert found.percent == 100.0


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_and_biases_are_kept(tmp_path: Path, name: str) -> None:
    model = save_base(tmp_path / "base", *WINDOWS[name])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    found = by_onnxruntime(exported(tmp_path, BaseType.F32), adapter_of(tmp_path / "adapter"), ROWS)
    assert compared(found, by_peft(model, tmp_path / "adapter", ROWS)).worst <= 2e-5


def test_without_an_adapter_it_is_the_base(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", *MODELS["qwen2"])
    found = by_onnxruntime(exported(tmp_path, BaseType.F32), None, ROWS)
    assert compared(found, logits(model)).worst <= 2e-5


@pytest.mark.parametrize("name", ["llama", "llama biased"])
def test_a_base_of_16_bits_computes_in_float32(tmp_path: Path, name: str) -> None:
    """Its weights are float16 before, so nothing is lost; embeddings are a head's or not."""
    model = save_base(tmp_path / "base", *MODELS[name], dtype=torch.float16)
    found = by_onnxruntime(exported(tmp_path, BaseType.F16), None, ROWS)
    assert compared(found, logits(model)).worst <= 2e-5


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2"])
def test_four_bits_are_the_numbers_of_ggufs_q4_0(tmp_path: Path, name: str) -> None:
    """The judge is transformers with the numbers that `gguf` makes of the weights."""
    import gguf

    four, eight = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
    model = save_base(tmp_path / "base", *MODELS[name], dtype=torch.bfloat16)
    tied = model.config.tie_word_embeddings
    head = "model.embed_tokens.weight" if tied else "lm_head.weight"
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.ndim > 1:
                kind = eight if key == head else four
                stored = gguf.quants.quantize(value.numpy(), kind)
                value.copy_(torch.from_numpy(gguf.quants.dequantize(stored, kind)))
    found, wanted = by_onnxruntime(exported(tmp_path, BaseType.Q4), None, ROWS), logits(model)
    # Activations have 8 bits in products with quantised matrices: half a step is 1/254.
    assert np.linalg.norm(found - wanted) <= 0.03 * np.linalg.norm(wanted)


def test_rows_that_no_block_fits_stay_in_float16(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", "llama", {"intermediate_size": 80}, dtype=torch.float16)
    graph = onnx.load(exported(tmp_path, BaseType.Q4), load_external_data=False).graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    assert kinds["model.layers.0.mlp.down_proj.weight"] == onnx.TensorProto.FLOAT16
    assert kinds["model.layers.0.mlp.up_proj.weight"] == onnx.TensorProto.UINT8
    found = by_onnxruntime(tmp_path / "base-q4.onnx", None, ROWS)
    assert np.isfinite(found).all()
    assert found.shape == logits(model).shape


@pytest.mark.parametrize("stored", [BaseType.F32, BaseType.F16, BaseType.Q4])
def test_onnx_finds_nothing_wrong_and_every_tensor_can_be_mapped(
    tmp_path: Path, stored: BaseType
) -> None:
    save_base(tmp_path / "base", *MODELS["gemma2"])
    path = exported(tmp_path, stored)
    if stored is not BaseType.Q4:  # it doesn't know ONNX Runtime's own operators
        onnx.checker.check_model(str(path))
    model = onnx.load(path, load_external_data=False)
    held = {entry.key: entry.value for entry in model.metadata_props}
    assert held == {"lorikeet.base.sha256": DIGEST, "lorikeet.base.type": stored.value}
    for tensor in model.graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        assert int(places.get("offset", 0)) % ALIGNED_BYTES == 0
        assert places.get("location", path.name + ".data") == path.name + ".data"


def test_onnxs_own_evaluator_computes_the_same(tmp_path: Path) -> None:
    """A floating point graph has standard operators alone."""
    from onnx.reference import ReferenceEvaluator

    save_base(tmp_path / "base", *MODELS["qwen3"])
    path = exported(tmp_path, BaseType.F32)
    row = ROWS[0][:12]
    wanted = by_onnxruntime(path, None, [row])
    past = {
        f"past.{layer}.{kind}": np.zeros((1, 2, 0, 32), np.float32)
        for layer in range(3)
        for kind in ("key", "value")
    }
    # This evaluator doesn't take an initialiser for an input that isn't given.
    model = onnx.load(path)
    defaults = {
        one.name: onnx.numpy_helper.to_array(one)
        for one in model.graph.initializer
        if one.name in {given.name for given in model.graph.input}
    }
    feeds = {**defaults, **past, "input_ids": np.array([row]), "past_lengths": np.array([0])}
    found = ReferenceEvaluator(model).run(["logits"], {**feeds, "places": np.arange(12)})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_same_base_gives_the_same_bytes(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["phi3"])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_base(tmp_path / "base", tmp_path / name / "base.onnx", BaseType.Q4, DIGEST)
    for name in ("base.onnx", "base.onnx.data"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(list((tmp_path / "one").iterdir())) == 2


@pytest.mark.parametrize(
    ("family", "special", "words"),
    [
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
         "rope_type is 'dynamic'"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("olmo2", {}, "model_type is 'olmo2'"),
    ],
)  # fmt: skip
def test_what_the_graph_would_compute_otherwise_is_refused(
    tmp_path: Path, family: str, special: dict[str, object], words: str
) -> None:
    save_base(tmp_path / "base", family, special)
    with pytest.raises(MalformedError, match=words):
        exported(tmp_path, BaseType.F32)
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.parametrize(
    ("wrong", "stored", "words"),
    [
        (float("nan"), BaseType.F32, "has entries that are NaN or infinite"),
        (1e6, BaseType.F16, "has an entry of 1e\\+06; float16 holds 65504"),
        (1e6, BaseType.Q4, "has an entry of 1e\\+06"),
    ],
)
def test_numbers_that_the_type_can_not_hold_are_refused(
    tmp_path: Path, wrong: float, stored: BaseType, words: str
) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    path = tmp_path / "base" / "model.safetensors"
    weights = load_file(path)
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = wrong
    save_file(weights, path)
    with pytest.raises(MalformedError, match=f"model.layers.1.mlp.up_proj.weight {words}"):
        exported(tmp_path, stored)
    assert not list(tmp_path.glob("*.onnx*"))
