"""An adapter's file, read by ONNX Runtime: what it gives is what PEFT gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import LoraAdapter

from bench.export_models import DIGEST, MODELS, save_adapter, save_base
from bench.serving_logits import by_peft, compared
from bench.serving_onnx import exported
from hub.export.base_type import BaseType
from hub.export.onnx.adapter import model_version, write_adapter
from wire.errors import MalformedError
from wire.peft_folder import write_lora, write_prompt

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = np.random.default_rng(3).integers(0, 300, (1, 40))


def written(folder: Path) -> Path:
    path = folder / "adapter.onnx_adapter"
    write_adapter(folder / "adapter", folder / "base", path, DIGEST)
    return path


def with_adapter(base: Path, adapter: Path, layers: int = 3) -> np.ndarray:
    """Return logits of all tokens as any program of ONNX Runtime gets them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(base), options)
    loaded = LoraAdapter()
    loaded.Load(str(adapter))
    chosen = onnxruntime.RunOptions()
    chosen.add_active_adapter(loaded)
    past = {
        f"past.{at}.{kind}": np.zeros((1, 2, 0, 16), np.float32)
        for at in range(layers)
        for kind in ("key", "value")
    }
    places = np.arange(-IDS.shape[1], 0)
    feeds = {"input_ids": IDS, "past_lengths": np.array([0]), "places": places}
    return session.run(["logits"], {**feeds, **past}, chosen)[0]


def test_onnx_runtimes_adapters_give_what_peft_gives(tmp_path: Path) -> None:
    model = save_base(tmp_path / "base", *MODELS["llama"])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    found = with_adapter(exported(tmp_path, BaseType.F32), written(tmp_path))
    wanted = by_peft(model, tmp_path / "adapter", IDS.tolist())
    assert compared(found, wanted).worst <= 2e-5


def test_a_soft_prompt_is_part_of_it(tmp_path: Path) -> None:
    """Transformers has it as embeddings in front."""
    model = save_base(tmp_path / "base", *MODELS["gemma2"])
    prompt = np.random.default_rng(4).normal(size=(5, 64)).astype(np.float32)
    write_prompt(tmp_path / "adapter" / "prompt", prompt, "base")
    read = onnxruntime.AdapterFormat.read_adapter(str(written(tmp_path)))
    np.testing.assert_array_equal(read.get_parameters()["prompt"].numpy(), prompt)
    with torch.no_grad():
        embedded = model.get_input_embeddings()(torch.tensor(IDS))
        whole = torch.cat([torch.tensor(prompt)[None], embedded], dim=1)
        wanted = model(inputs_embeds=whole).logits[0, 5:].numpy()
    base = exported(tmp_path, BaseType.F32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(base), options)
    past = {
        f"past.{at}.{kind}": np.zeros((1, 2, 0, 32), np.float32)
        for at in range(3)
        for kind in ("key", "value")
    }
    feeds = {"input_ids": IDS, "past_lengths": np.array([0]), "prompt": prompt}
    found, key = session.run(["logits", "new.0.key"], {**feeds, **past})
    np.testing.assert_allclose(found[0], wanted[-1], atol=1e-4)
    assert key.shape == (1, 2, 45, 32)
    # It begins texts; what has a past has it already.
    past = {name: np.zeros((1, 2, 4, 32), np.float32) for name in past}
    (key,) = session.run(["new.0.key"], {**feeds, **past, "past_lengths": np.array([4])})
    assert key.shape == (1, 2, 40, 32)


def test_it_names_its_base_and_holds_the_factors_as_they_are(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["qwen2"])
    target = "model.layers.1.mlp.up_proj"
    a, b = np.arange(128.0).reshape(2, 64), np.arange(192.0).reshape(96, 2)
    factors = {f"{target}.lora_A": a.astype("f4"), f"{target}.lora_B": b.astype("f4")}
    write_lora(tmp_path / "adapter", factors, "base")
    read = onnxruntime.AdapterFormat.read_adapter(str(written(tmp_path)))
    assert read.get_format_version() == 1
    assert read.get_model_version() == model_version(DIGEST) == 0x2BABABAB
    held = {name: value.numpy() for name, value in read.get_parameters().items()}
    assert set(held) == set(factors)
    for name, values in factors.items():
        np.testing.assert_array_equal(held[name], values)


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    save_adapter(tmp_path / "adapter", tmp_path / "base")
    first = written(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first


def test_what_is_no_linear_layer_is_refused(tmp_path: Path) -> None:
    save_base(tmp_path / "base", *MODELS["llama"])
    norm = {
        "model.norm.lora_A": np.ones((2, 64), np.float32),
        "model.norm.lora_B": np.ones((64, 2), np.float32),
    }
    write_lora(tmp_path / "adapter", norm, "base")
    with pytest.raises(MalformedError, match="no linear layer"):
        written(tmp_path)
    assert not list(tmp_path.glob("*.onnx_adapter*"))
