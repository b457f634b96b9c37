"""The block-wise engine over other families of transformers, against PEFT's autograd."""

import json
import subprocess
import sys

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edge_agent.errors import AdapterError, ModelError
from edge_agent.training.bases import open_base
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart
from wire.peft_folder import write_lora

from .families import OTHERS, save_model
from .test_passes import Filled, batch, by_peft, relative

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    # PEFT says that it takes GPT-2's matrices as they lie.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_factors_and_prompt_are_those_of_peft(name, tmp_path):
    model = save_model(name, tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = Filled(base.targets, 4, 3, base.hidden_size, seed=2)
    ids, labels = batch()
    placed = base.place(start, Trained(rank=4, prompt=True))
    loss = placed.backward_loss(ids, labels)
    prompt = torch.from_numpy(start.prompt()).requires_grad_(True)
    want, grads = by_peft(model, start, ids, labels, prompt)
    grads["prompt"] = prompt.grad
    assert loss.total / loss.tokens == pytest.approx(want, rel=1e-5)
    assert placed.trained.keys() == grads.keys()
    worst = {key: relative(placed.trained[key].grad, value) for key, value in grads.items()}
    assert max(worst.values()) <= 1e-4, max(worst, key=worst.get)
    after = placed.evaluate_loss(ids, labels, "adapter")
    assert after.total / after.tokens == pytest.approx(want, rel=1e-5)


def test_the_rest_of_an_adapter_stays_in_place(tmp_path):
    model = save_model("gpt_neox", tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = Filled(base.targets, 4, 0, base.hidden_size, seed=2)
    ids, labels = batch()
    placed = base.place(start, Trained(rank=1))
    loss = placed.backward_loss(ids, labels)
    want, grads = by_peft(model, start, ids, labels)
    assert loss.total / loss.tokens == pytest.approx(want, rel=1e-5)
    for key, value in grads.items():
        part = value[:1] if key.endswith("lora_A") else value[:, :1]
        assert relative(placed.trained[key].grad, part) <= 1e-4, key
    bare = placed.evaluate_loss(ids, labels, "base")
    base.clear()
    again = base.place(FreshStart({}, 0, 0, base.hidden_size, 1), Trained())
    assert again.evaluate_loss(ids, labels, "adapter") == bare


@pytest.mark.parametrize("name", ["gpt2", "olmo2"])
def test_a_cores_gradient_is_the_matrixs_seen_from_its_directions(name, tmp_path):
    model = save_model(name, tmp_path)
    ids, labels = batch()
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    base = BlockwiseBase(tmp_path, torch.float32)
    placed = base.place(FreshStart({}, 0, 0, 32, 1), Trained(core=3))
    found = placed.backward_loss(ids, labels)
    assert found.total / found.tokens == pytest.approx(float(loss.detach()), rel=1e-5)
    for target in (next(iter(base.targets)), list(base.targets)[-1]):
        core = placed.trained[f"{target}.core"]
        with torch.no_grad():
            core.copy_(torch.eye(3))  # then B is U itself
        factors = {key: torch.from_numpy(value) for key, value in placed.values().items()}
        whole = model.get_submodule(target).weight.grad  # (out, in), in GPT-2 (in, out)
        whole = whole.T if name == "gpt2" else whole
        # d loss / d R = Uᵀ (d loss / d W) Vᵀ, for the product U R V stands beside W.
        want = factors[f"{target}.lora_B"].T @ whole @ factors[f"{target}.lora_A"].T
        assert relative(core.grad, want) <= 1e-4


@pytest.mark.parametrize("name", ["falcon", "gpt2"])
def test_peft_reads_the_adapter_that_was_trained(name, tmp_path):
    model = save_model(name, tmp_path / "base")
    base = BlockwiseBase(tmp_path / "base", torch.float32)
    placed = base.place(FreshStart(base.targets, 4, 0, base.hidden_size, 1), Trained(rank=4))
    ids, labels = batch()
    with torch.no_grad():
        for key, value in placed.trained.items():
            value.add_(0.1 if key.endswith("lora_B") else 0.0)
    ours = placed.evaluate_loss(ids, labels, "adapter")
    bare = placed.evaluate_loss(ids, labels, "base")
    write_lora(tmp_path / "adapter", placed.values(), "base")
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
    labels[:, 0] = -100
    with torch.no_grad():
        loss = adapted(input_ids=ids, labels=labels).loss
    assert ours.total / ours.tokens == pytest.approx(float(loss), rel=1e-5)
    assert ours.total != pytest.approx(bare.total, rel=1e-4)


def test_names_without_the_outer_modules_are_understood(tmp_path):
    # As in the files of GPT-2 that its makers published.
    save_model("gpt2", tmp_path)
    ids, labels = batch()
    start = FreshStart({}, 0, 0, 32, 1)
    want = BlockwiseBase(tmp_path, torch.float32).place(start, Trained())
    file = tmp_path / "model.safetensors"
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(file).items()}
    assert "h.0.attn.c_attn.weight" in tensors
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)  # the mask, which models compute today
    save_file(tensors, file, metadata={"format": "pt"})
    base = BlockwiseBase(tmp_path, torch.float32)
    assert next(iter(base.targets)) == "transformer.h.0.attn.c_attn"
    found = base.place(start, Trained()).evaluate_loss(ids, labels, "base")
    assert found == want.evaluate_loss(ids, labels, "base")


def test_half_precision_is_close_to_full(tmp_path):
    save_model("stablelm", tmp_path)
    ids, labels = batch()
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        base = BlockwiseBase(tmp_path, dtype)
        placed = base.place(Filled(base.targets, 4, 0, 32, seed=2), Trained(rank=4))
        losses[dtype] = placed.backward_loss(ids, labels).total
        assert all(value.grad.isfinite().all() for value in placed.trained.values())
    # bfloat16 has 8 bits: errors of 0.4 % a product, which average out over many.
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)


@pytest.mark.parametrize("rung", ["resident", "checkpointed", "streamed"])
def test_such_a_model_is_streamed_on_every_rung(rung, tmp_path):
    save_model("olmo2", tmp_path)
    assert isinstance(open_base(tmp_path, rung), BlockwiseBase)


def test_a_prefix_in_every_layer_is_refused(tmp_path):
    save_model("olmo2", tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    with pytest.raises(AdapterError, match=r"olmo2 blocks take none.*Train a soft prompt"):
        base.place(FreshStart({}, 0, 0, 32, 1), Trained(prefix=3))


def test_a_file_that_lacks_a_tensor_is_named(tmp_path):
    save_model("olmo2", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1.self_attn.q_proj.weight is None; .*32, 32"):
        BlockwiseBase(tmp_path, torch.float32)


def test_a_tensor_that_the_model_lacks_is_refused(tmp_path):
    save_model("olmo2", tmp_path)
    file = tmp_path / "model.safetensors"
    name = "model.layers.1.self_attn.q_proj.bias"
    save_file(load_file(file) | {name: torch.ones(32)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{name}, which olmo2 of transformers doesn't have"):
        BlockwiseBase(tmp_path, torch.float32)


def test_code_that_comes_with_a_model_is_never_run(tmp_path):
    save_model("olmo2", tmp_path)
    (tmp_path / "own.py").write_text("raise SystemExit('it ran')")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "own.Model", "AutoConfig": "own.Config"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(BlockwiseBase(tmp_path, torch.float32).targets) == 21


#: Prints how far the peak of opening the second model and training a step lies above what the
#: process had after the same with the first one.
CHILD = """
import sys
from pathlib import Path
import torch
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart

def field(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) * 1024

def step(path):
    base = BlockwiseBase(Path(path), torch.float32)
    placed = base.place(FreshStart(base.targets, 1, 0, base.hidden_size, 1), Trained(rank=1))
    ids = torch.arange(32)[None]
    placed.backward_loss(ids, ids)
    return base

step(sys.argv[1]).close()
before = field("VmRSS")
base = step(sys.argv[2])
print(field("VmHWM") - before)
"""


@pytest.mark.slow
def test_a_models_matrices_are_never_in_memory_together(tmp_path):
    save_model("olmo2", tmp_path / "small")
    config = transformers.AutoConfig.for_model(
        "olmo2", hidden_size=512, intermediate_size=1536, num_hidden_layers=10,
        num_attention_heads=8, vocab_size=4000,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "large")
    stored = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert stored > 150e6
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "small"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A block has 14 MB; gradients and states of 32 tokens are small beside it.
    assert int(done.stdout) < stored / 4
