"""Cores and prefixes in the block-wise pass, and what opening refuses."""

import json

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edge_agent.errors import AdapterError, ModelError
from edge_agent.training.adamw import AdamW
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart

from .families import save_model
from .test_passes import Filled, batch, relative

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "base"
    save_model("llama", made)
    return made


def opened(folder):
    return BlockwiseBase(folder, torch.float32)


def test_a_core_lies_between_the_leading_directions_of_its_matrix(folder):
    name = "model.layers.1.mlp.up_proj"
    tensors = load_file(folder / "model.safetensors")
    left, _, right = np.linalg.svd(tensors[f"{name}.weight"].numpy(), full_matrices=False)
    known = (left * 0.5 ** np.arange(32)) @ right  # singular values 1, 1/2, 1/4, ...
    tensors[f"{name}.weight"] = torch.from_numpy(known.astype(np.float32))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    placed = opened(folder).place(FreshStart({}, 0, 0, 32, 1), Trained(core=2))
    with torch.no_grad():
        placed.trained[f"{name}.core"].copy_(torch.tensor([[0.5, 0.0], [0.0, -0.25]]))
    found = placed.values()
    # U has columns of norm sqrt(out); a singular vector's sign is free, the product's is not.
    product = found[f"{name}.lora_B"] @ found[f"{name}.lora_A"]
    want = np.sqrt(48) * (
        0.5 * np.outer(left[:, 0], right[0]) - 0.25 * np.outer(left[:, 1], right[1])
    )
    np.testing.assert_allclose(product, want, atol=1e-3)
    assert found[f"{name}.lora_A"].shape == (2, 32)


def test_a_cores_gradient_is_the_matrixs_seen_from_its_directions(folder):
    ids, labels = batch()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    base = opened(folder)
    placed = base.place(FreshStart({}, 0, 0, 32, 1), Trained(core=3))
    found = placed.backward_loss(ids, labels)
    assert found.total / found.tokens == pytest.approx(float(loss.detach()), rel=1e-5)
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj"):
        core = placed.trained[f"{name}.core"]
        with torch.no_grad():
            core.copy_(torch.eye(3))  # then B is U itself
        factors = {key: torch.from_numpy(value) for key, value in placed.values().items()}
        whole = model.get_submodule(name).weight.grad  # (out, in)
        # d loss / d R = Uᵀ (d loss / d W) Vᵀ, for the product U R V stands beside W.
        want = factors[f"{name}.lora_B"].T @ whole @ factors[f"{name}.lora_A"].T
        assert relative(core.grad, want) <= 1e-4


def test_cores_learn(folder):
    base = opened(folder)
    placed = base.place(FreshStart({}, 0, 0, 32, 1), Trained(core=4))
    ids, labels = batch()
    optimizer = AdamW(placed.trained.values(), 0.0)
    losses = []
    for _ in range(12):
        losses.append(placed.backward_loss(ids, labels).total)
        optimizer.step(lr=0.003, clip=1.0)
    assert losses[-1] < losses[0] * 0.95


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_a_prefix_has_the_gradient_that_peft_gives_it(family, tmp_path):
    folder = tmp_path / "base"
    model = save_model(family, folder)
    base = opened(folder)
    placed = base.place(FreshStart({}, 0, 0, 32, 1), Trained(prefix=3))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # large enough for scores to depend on it
        for value in placed.trained.values():
            value.copy_(torch.randn(value.shape, generator=generator))
    ids, labels = batch()
    ours = placed.backward_loss(ids, labels)
    config = peft.PrefixTuningConfig(
        num_virtual_tokens=3, num_layers=3, token_dim=model.config.hidden_size,
        num_attention_heads=4, task_type="CAUSAL_LM",
    )  # fmt: skip
    adapted = peft.get_peft_model(model, config)
    table = adapted.prompt_encoder["default"].embedding.weight  # (3, layers * 2 * kv size)
    kinds = [(layer, kind) for layer in range(3) for kind in ("key", "value")]
    with torch.no_grad():
        parts = [placed.trained[f"prefix.{i}.{kind}"] for i, kind in kinds]
        table.copy_(torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1))
    shifted = labels.clone()
    shifted[:, 0] = -100
    loss = adapted(input_ids=ids, labels=shifted).loss
    loss.backward()
    assert ours.total / ours.tokens == pytest.approx(float(loss.detach()), rel=1e-4)
    for (layer, kind), want in zip(kinds, table.grad.chunk(6, dim=1), strict=True):
        found = placed.trained[f"prefix.{layer}.{kind}"].grad.transpose(0, 1).flatten(1)
        assert relative(found, want) <= 1e-4, (layer, kind)


class Prefixed(FreshStart):
    """A start with a prefix of 3 positions in every layer, all of one number."""

    def __init__(self, layers=3, number=0.5):
        super().__init__({}, 0, 3, 32, 1)
        names = [f"prefix.{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
        self.prompts = dict.fromkeys(names, (2, 3, 8))
        self.number = number

    def prompt(self, name):
        return np.full(self.prompts[name], self.number, np.float32)


def test_a_prefix_of_a_hub_is_put_in_place_trained_and_sent_as_a_difference(folder):
    base, (ids, labels) = opened(folder), batch()
    bare = base.place(FreshStart({}, 0, 0, 32, 1), Trained()).evaluate_loss(ids, labels, "base")
    alike = base.place(FreshStart({}, 0, 0, 32, 1), Trained(prefix=3))
    with torch.no_grad():
        for value in alike.trained.values():
            value.fill_(0.5)
    wanted = alike.evaluate_loss(ids, labels, "adapter")
    served = base.place(Prefixed(), Trained())
    assert served.trained == {}
    assert served.evaluate_loss(ids, labels, "adapter") == wanted != bare
    placed = base.place(Prefixed(), Trained(prompt=True))
    assert placed.evaluate_loss(ids, labels, "without_prompt") == bare
    assert placed.evaluate_loss(ids, labels, "adapter") == wanted
    placed.backward_loss(ids, labels)
    with torch.no_grad():
        for value in placed.trained.values():
            assert value.grad.any()
            value.add_(1)
    update = placed.update()
    assert set(update) == set(Prefixed().prompts)
    assert all((value == 1).all() for value in update.values())


def test_a_prefix_for_another_base_is_refused(folder):
    with pytest.raises(AdapterError, match="made for another"):
        opened(folder).place(Prefixed(layers=2), Trained(prompt=True))


def test_a_fresh_prefix_is_drawn_from_its_seed(folder):
    base, start = opened(folder), FreshStart({}, 0, 0, 32, 1)
    drawn = []
    for seed in (1, 1, 2):
        placed = base.place(start, Trained(prefix=3, seed=seed))
        drawn.append(placed.values()["prefix.0.key"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_base_variant_is_the_bare_model_and_factors_come_back(folder):
    base = opened(folder)
    ids, labels = batch()
    bare = base.place(FreshStart({}, 0, 0, 32, 1), Trained()).evaluate_loss(ids, labels, "adapter")
    placed = base.place(Filled(base.targets, 4, 3, 32, seed=2), Trained(rank=2))
    changed = placed.evaluate_loss(ids, labels, "adapter")
    without = placed.evaluate_loss(ids, labels, "without_prompt")
    assert placed.evaluate_loss(ids, labels, "base") == bare
    assert placed.evaluate_loss(ids, labels, "adapter") == changed
    assert len({bare.total, changed.total, without.total}) == 3
    base.clear()
    again = base.place(FreshStart({}, 0, 0, 32, 1), Trained())
    assert again.evaluate_loss(ids, labels, "adapter") == bare


def test_the_update_is_the_difference_to_the_start(folder):
    base = opened(folder)
    start = Filled(base.targets, 4, 3, 32, seed=2)
    placed = base.place(start, Trained(rank=2))
    name = "model.layers.0.self_attn.v_proj.lora_B"
    with torch.no_grad():
        placed.trained[name][3, 1] += 0.5
    update = placed.update()
    want = np.zeros((16, 2), dtype=np.float32)
    want[3, 1] = 0.5
    np.testing.assert_allclose(update[name], want, atol=1e-6)
    assert not any(value.any() for key, value in update.items() if key != name)


def test_a_core_is_not_sent_to_a_hub(folder):
    placed = opened(folder).place(FreshStart({}, 0, 0, 32, 1), Trained(core=2))
    with pytest.raises(AdapterError, match="can't be sent"):
        placed.update()


def test_a_file_that_contradicts_its_configuration_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name][:40].contiguous()}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"up_proj.weight is \(40, 32\).*says \(48, 32\)"):
        opened(folder)


def test_half_precision_is_close_to_full(folder):
    ids, labels = batch()
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        base = BlockwiseBase(folder, dtype)
        placed = base.place(Filled(base.targets, 4, 0, 32, seed=2), Trained(rank=4))
        losses[dtype] = placed.backward_loss(ids, labels).total
        assert all(value.dtype == torch.float32 for value in placed.trained.values())
    # bfloat16 has 8 bits: errors of 0.4 % a product, which average out over many.
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "float32"
