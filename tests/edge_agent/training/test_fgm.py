"""The fast gradient method, by hand and against autograd on transformers' own models."""

import shutil

import peft
import pytest
import torch

from edge_agent.training.bases import open_base
from edge_agent.training.contract import Trained
from edge_agent.training.fgm import perturbation
from edge_agent.training.start import PROMPT
from wire.labels import IGNORED

from .blockwise.families import save_model
from .blockwise.test_passes import Filled, batch, relative

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

EPSILON = 0.5


def test_each_sequence_is_moved_by_epsilon_along_its_gradient():
    # Norms over all of a sequence: 5 (of 3 and 4), 0, and 13 (of 5 and 12).
    gradient = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0]] * 2, [[5.0, 0.0], [0.0, 12.0]]])
    found = perturbation(gradient, 2.0)
    assert found[0].tolist() == [[pytest.approx(1.2), 0], [0, pytest.approx(1.6)]]
    assert found[1].tolist() == [[0, 0], [0, 0]]
    assert found[2].norm().item() == pytest.approx(2.0)
    assert gradient[0, 0, 0] == 3.0  # the argument is never changed


def test_a_prompt_in_front_stays_where_it_is():
    found = perturbation(torch.tensor([[[30.0], [3.0], [4.0]]]), 1.0, front=1)
    assert found.flatten().tolist() == pytest.approx([0.0, 0.6, 0.8])


def by_autograd(model, start, ids, labels):
    """Return the gradients of both losses by autograd, with hooks on the first block."""
    config = peft.LoraConfig(
        r=start.rank, lora_alpha=start.rank, target_modules=list(start.shapes), bias="none"
    )
    adapted = peft.get_peft_model(model, config)
    values = dict(adapted.named_parameters())
    leaves = {}
    for name in start.shapes:
        for kind in ("lora_A", "lora_B"):
            value = values[f"base_model.model.{name}.{kind}.default.weight"]
            value.data.copy_(torch.from_numpy(start.factor(f"{name}.{kind}").copy()))
            leaves[f"{name}.{kind}"] = value
    prompt = leaves[PROMPT] = torch.from_numpy(start.prompt()).requires_grad_(True)
    front = len(prompt)
    embedded = adapted.get_input_embeddings()(ids).detach()
    shifted = torch.cat([torch.full((len(ids), front), IGNORED), labels], dim=1)
    shifted[:, front] = IGNORED
    seen, moves = [], [None]

    def hook(_, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        x = x if moves[0] is None else x + moves[0]
        seen.append(x)
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    block = adapted.base_model.model.model.layers[0]
    block.register_forward_pre_hook(hook, with_kwargs=True)

    def loss():
        whole = torch.cat([prompt.expand(len(ids), -1, -1), embedded], dim=1)
        return adapted(inputs_embeds=whole, labels=shifted, use_cache=False).loss

    clean = loss()
    (slope,) = torch.autograd.grad(clean, seen[0], retain_graph=True)
    slope[:, :front] = 0
    moves[0] = EPSILON * slope / slope.flatten(1).norm(dim=1)[:, None, None]
    (clean + loss()).backward()
    return float(clean.detach()), {name: value.grad for name, value in leaves.items()}


@pytest.mark.parametrize(
    ("name", "rung"),
    [
        ("llama", "streamed"),
        ("gemma2", "streamed"),
        ("llama", "resident"),
        ("llama", "checkpointed"),
        ("gemma2", "resident"),
    ],
)
@pytest.mark.parametrize("trained", [Trained(rank=4), Trained(prompt=True)])
def test_both_losses_gradients_are_those_of_autograd(name, rung, trained, tmp_path, llama):
    save_model(name, tmp_path)
    for file in llama.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    base = open_base(tmp_path, rung)
    start = Filled(base.targets, 4, 3, base.hidden_size, seed=2)
    ids, labels = batch()
    placed = base.place(start, trained)
    loss = placed.backward_loss(ids, labels, epsilon=EPSILON)
    want, grads = by_autograd(save_model(name, tmp_path / "again"), start, ids, labels)
    # What is told is the loss without the adversary.
    assert loss.total / loss.tokens == pytest.approx(want, rel=1e-5)
    for key, value in placed.trained.items():
        assert relative(value.grad, grads[key]) <= 1e-3, key
    placed.backward_loss(ids, labels)  # nothing of the adversary is left behind
    assert placed.evaluate_loss(ids, labels, "adapter").total == pytest.approx(loss.total, rel=1e-5)


def test_a_batch_in_parts_is_moved_sequence_by_sequence(tmp_path):
    save_model("llama", tmp_path)
    base = open_base(tmp_path, "streamed")
    start = Filled(base.targets, 4, 0, base.hidden_size, seed=2)
    ids, labels = batch()
    tokens = int((labels[:, 1:] != IGNORED).sum())
    whole = base.place(start, Trained(rank=4))
    whole.backward_loss(ids, labels, epsilon=EPSILON)
    expected = {name: value.grad for name, value in whole.trained.items()}
    parts = base.place(start, Trained(rank=4))
    for row in range(2):
        parts.backward_loss(ids[row : row + 1], labels[row : row + 1], tokens, EPSILON)
    assert all(relative(parts.trained[k].grad, g) <= 1e-4 for k, g in expected.items())
