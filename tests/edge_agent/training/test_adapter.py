"""The leading start and the frozen rest, held against weights that were merged by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from edge_agent.errors import AdapterError
from edge_agent.training.base import load_base
from edge_agent.training.contract import Trained
from edge_agent.training.loss import evaluate_loss
from edge_agent.training.start import PackedStart, leading

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = torch.tensor([[5, 250, 7, 99, 41], [100, 3, 3, 8, 0]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def merged(folder, tensors):
    """Return the base model with W + B A in place of each W."""
    model = load_base(folder).model
    with torch.no_grad():
        for name in tensors:
            if name.endswith(".lora_A"):
                target = name.removesuffix(".lora_A")
                product = tensors[f"{target}.lora_B"] @ tensors[name]
                model.get_submodule(target).weight += torch.from_numpy(product)
    return model


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_leading_start_and_rest_make_the_whole_adapter(family, rank, request, make_adapter):
    folder = request.getfixturevalue(family)
    saved = make_adapter(folder, rank=4)
    base = load_base(folder)
    placed = base.place(PackedStart(saved.manifest, saved.parts), Trained(rank=rank, prompt=False))
    assert torch.allclose(logits(placed.model), logits(merged(folder, saved.tensors)), atol=1e-4)
    assert not torch.allclose(logits(load_base(folder).model), logits(placed.model), atol=1e-2)


def test_the_start_is_the_leading_components(llama, make_adapter):
    saved = make_adapter(llama, rank=4)
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False)
    )
    name = "model.layers.1.mlp.up_proj"
    assert set(placed.trained) == set(saved.manifest.expected_lora(2))
    np.testing.assert_array_equal(
        leading(placed.start, f"{name}.lora_A", 2), saved.tensors[f"{name}.lora_A"][:2]
    )
    np.testing.assert_array_equal(
        leading(placed.start, f"{name}.lora_B", 2), saved.tensors[f"{name}.lora_B"][:, :2]
    )


def test_rank_slices_are_put_together(llama, make_adapter):
    saved = make_adapter(llama, rank=5, slices=2)  # ranks 3 and 2
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=1, prompt=False)
    )
    assert torch.allclose(logits(placed.model), logits(merged(llama, saved.tensors)), atol=1e-4)


@pytest.mark.parametrize(("rank", "train_prompt"), [(2, False), (0, True), (2, True)])
def test_gradients_reach_what_is_trained_and_nothing_else(llama, make_adapter, rank, train_prompt):
    saved = make_adapter(llama, rank=4, tokens=3)
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=rank, prompt=train_prompt)
    )
    placed.backward_loss(IDS, IDS)
    trained = {id(value) for value in placed.trained.values()}
    others = [value for value in placed.model.parameters() if id(value) not in trained]
    assert all(value.grad is None for value in others)
    assert all(float(value.grad.abs().sum()) > 0 for value in placed.trained.values())
    assert ("prompt" in placed.trained) == train_prompt
    if not train_prompt:
        assert placed.prompt.grad is None


def test_the_update_is_the_difference_to_the_start(llama, make_adapter):
    saved = make_adapter(llama, rank=4, tokens=3)
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False)
    )
    name = "model.layers.0.self_attn.v_proj.lora_B"
    with torch.no_grad():
        placed.trained[name][3, 1] += 0.5
    update = placed.update()
    want = np.zeros((16, 2), dtype=np.float32)
    want[3, 1] = 0.5
    np.testing.assert_allclose(update[name], want, atol=1e-7)
    assert {key: value.shape for key, value in update.items()} == saved.manifest.expected_lora(2)
    assert all(value.dtype == np.float32 for value in update.values())
    assert not any(value.any() for key, value in update.items() if key != name)


def test_a_prompt_device_sends_the_prompt_only(llama, make_adapter):
    saved = make_adapter(llama, rank=4, tokens=3)
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=0, prompt=True)
    )
    with torch.no_grad():
        placed.trained["prompt"][2, 31] -= 0.25
    update = placed.update()
    want = np.zeros((3, 32), dtype=np.float32)
    want[2, 31] = -0.25
    assert list(update) == ["prompt"]
    np.testing.assert_allclose(update["prompt"], want, atol=1e-7)


def test_a_warm_base_takes_one_adapter_after_the_other(llama, make_adapter):
    base = load_base(llama)
    bare = logits(base.model)
    small, large = make_adapter(llama, rank=2), make_adapter(llama, rank=4)
    for saved, rank in ((large, 4), (small, 1), (large, 2), (small, 0)):
        placed = base.place(
            PackedStart(saved.manifest, saved.parts), Trained(rank=rank, prompt=False)
        )
        assert torch.allclose(logits(placed.model), logits(merged(llama, saved.tensors)), atol=1e-4)
    base.clear()
    assert torch.equal(logits(base.model), bare)


def test_a_soft_prompt_stands_in_front_as_peft_puts_it(llama, make_adapter):
    import peft

    saved = make_adapter(llama, rank=0, tokens=3)
    base = load_base(llama)
    placed = base.place(PackedStart(saved.manifest, saved.parts), Trained(rank=0, prompt=False))

    ours = evaluate_loss(placed.model, placed.prompt, IDS, IDS)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    theirs = peft.get_peft_model(load_base(llama).model, config)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(placed.prompt)
        labels = IDS.clone()
        labels[:, 0] = -100  # PEFT would predict the first token from the prompt
        mean = theirs(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=labels).loss
    assert ours.total / ours.tokens == pytest.approx(float(mean), rel=1e-5)
    assert ours.tokens == 8


def test_the_factors_can_be_switched_off(llama, make_adapter):
    saved = make_adapter(llama, rank=4)
    placed = load_base(llama).place(
        PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False)
    )
    whole = placed.evaluate_loss(IDS, IDS, "without_prompt")
    bare = evaluate_loss(load_base(llama).model, None, IDS, IDS)
    assert placed.evaluate_loss(IDS, IDS, "base") == bare != whole
    assert placed.evaluate_loss(IDS, IDS, "without_prompt") == whole


def test_more_rank_than_the_adapter_has_is_refused(llama, make_adapter):
    saved = make_adapter(llama, rank=2)
    with pytest.raises(AdapterError, match="rank 3 was asked for"):
        load_base(llama).place(
            PackedStart(saved.manifest, saved.parts), Trained(rank=3, prompt=False)
        )


def test_an_adapter_of_another_base_is_refused(llama, make_base, make_adapter):
    saved = make_adapter(make_base("llama", intermediate_size=64), rank=2)
    with pytest.raises(
        AdapterError, match=r"down_proj \(32 x 64\); in the base model it is \(32, 48\)"
    ):
        load_base(llama).place(
            PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False)
        )


def test_a_prompt_task_without_a_prompt_is_refused(llama, make_adapter):
    saved = make_adapter(llama, rank=2, tokens=0)
    with pytest.raises(AdapterError, match="no soft prompt"):
        load_base(llama).place(
            PackedStart(saved.manifest, saved.parts), Trained(rank=0, prompt=True)
        )


def test_a_damaged_part_is_an_adapter_error(llama, make_adapter):
    saved = make_adapter(llama, rank=2)
    for path in saved.parts.values():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="round 1"):
        load_base(llama).place(
            PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False)
        )


def test_a_part_that_was_not_given_is_an_adapter_error(llama, make_adapter):
    saved = make_adapter(llama, rank=2)
    with pytest.raises(AdapterError, match="was not given"):
        PackedStart(saved.manifest, {})


def test_an_adapter_without_factors_leaves_the_layers_alone(llama, make_adapter):
    saved = make_adapter(llama, rank=0, tokens=2)
    start = PackedStart(saved.manifest, saved.parts)
    placed = load_base(llama).place(start, Trained(prompt=True))
    assert dataclasses.is_dataclass(placed)
    assert torch.equal(logits(placed.model), logits(load_base(llama).model))
