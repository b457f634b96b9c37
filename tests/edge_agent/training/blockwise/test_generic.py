"""The block-wise engine over other families of transformers, against PEFT's autograd."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_agent.errors import AdapterError, ModelError
from edge_agent.training.bases import open_base
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart

from .families import OTHERS, SIZES, save_model
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


def save_config(folder, family, **special):
    """Save a configuration, with a file that holds nothing of the model."""
    config = {"model_type": family, **SIZES, **special}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.ones(2, 2)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("family", "special", "reason"),
    [
        ("bart", {}, "bart is an encoder-decoder model"),
        ("mixtral", {"num_local_experts": 4}, "belongs to no linear layer. Mixtures of experts"),
        ("mamba", {}, r"conv1d.weight of mamba, \(48, 1, 4\), belongs to no linear layer"),
        ("xlm", {"emb_dim": 32, "n_layers": 3, "n_heads": 4}, "xlm has 4 lists of 3 modules"),
        ("gemma3", {}, "gemma3 has more than a text model in it"),
        ("vit", {}, "transformers can't build a vit"),
        ("llama", {"hidden_act": "unheard"}, "hidden_act is 'unheard'"),
        ("olmo2", {"hidden_act": "unheard"}, "transformers can't build a olmo2.*unheard"),
        ("olmo2", {}, r"q_proj.weight is None; its configuration says \(32, 32\)"),
        ("own", {"auto_map": {}}, "'own', which transformers doesn't know. Code that comes with"),
        (None, {}, "model_type is None"),
    ],
)
def test_what_cannot_be_gone_through_is_refused_with_the_reason(tmp_path, family, special, reason):
    save_config(tmp_path, family, **special)
    with pytest.raises(ModelError, match=reason):
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
