"""All weights of a resident model: gradients and steps against transformers' own autograd."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from edge_agent.errors import AdapterError
from edge_agent.training.base import load_base
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from wire.messages import LocalWork
from wire.shape import parameter_shapes

from .blockwise.families import save_model
from .blockwise.test_passes import batch, relative

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Moved(FreshStart):
    """A start that has moved every weight."""

    def weight(self, name):
        return self._drawn(name, self.weights[name]) * np.float32(0.05)


def start_of(folder, kind=Moved):
    config = json.loads((folder / "config.json").read_text())
    return kind({}, 0, 0, config["hidden_size"], 1, weights=parameter_shapes(config))


def moved_model(model, start):
    """Move the weights of transformers' model as the start says."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(torch.from_numpy(start.weight(name)))
    return model


@pytest.fixture
def make(tmp_path, write_tokenizer):
    """Return a function that saves a model of a kind, and opens it for a rung."""

    def made(name="llama", rung="resident"):
        model = save_model(name, tmp_path)
        write_tokenizer(tmp_path)
        return model, open_base(tmp_path, rung), start_of(tmp_path)

    return made


@pytest.mark.parametrize(
    "name", ["llama", "llama biased", "mistral", "qwen2", "qwen3", "gemma2", "phi3"]
)
@pytest.mark.parametrize("rung", ["resident", "checkpointed"])
def test_gradients_of_all_weights_are_autograds(make, name, rung):
    model, base, start = make(name, rung)
    placed = base.place(start, Trained(full=True))
    ids, labels = batch()
    found = placed.backward_loss(ids, labels)
    moved_model(model, start)
    meant = model(input_ids=ids, labels=labels, use_cache=False).loss
    meant.backward()
    assert found.total / found.tokens == pytest.approx(float(meant.detach()), rel=1e-5)
    wanted = dict(model.named_parameters())
    assert placed.trained.keys() == wanted.keys()
    for key, value in placed.trained.items():
        assert relative(value.grad, wanted[key].grad) < 1e-4, key


def test_embeddings_learn_from_moved_embeddings_too(make):
    """FGM (arXiv 1605.07725): the loss at e + r counts for the embeddings, r being fixed."""
    model, base, start = make("llama biased")  # whose head is its embeddings
    placed = base.place(start, Trained(full=True))
    ids, labels = batch()
    placed.backward_loss(ids, labels, epsilon=0.5)
    moved_model(model, start)
    table = model.get_input_embeddings()
    embedded = table(ids)
    clean = model(inputs_embeds=embedded, labels=labels, use_cache=False).loss
    (slope,) = torch.autograd.grad(clean, embedded, retain_graph=True)
    move = 0.5 * slope / slope.flatten(1).norm(dim=1)[:, None, None]
    again = model(inputs_embeds=table(ids) + move, labels=labels, use_cache=False).loss
    (clean + again).backward()
    for key, value in model.named_parameters():
        assert relative(placed.trained[key].grad, value.grad) < 1e-4, key


def test_a_step_of_sgd_is_what_travels(make):
    _, base, start = make()
    placed = base.place(start, Trained(full=True))
    ids, labels = batch()
    placed.backward_loss(ids, labels)
    grads = {name: value.grad.numpy().copy() for name, value in placed.trained.items()}
    for value in placed.trained.values():
        value.grad = None
    rows = [Row(one.tolist(), other.tolist()) for one, other in zip(ids, labels, strict=True)]
    work = LocalWork(
        steps=1, batch=2, seq_len=24, optimizer="sgd", lr=0.5, seed=1, clip=None, warmup_steps=0
    )
    train(placed, rows, work, 0.0, lambda *_: None)
    update, values = placed.update(), placed.values()
    for name, grad in grads.items():
        np.testing.assert_allclose(update[name], -0.5 * grad, atol=2e-6)
        np.testing.assert_allclose(values[name], start.weight(name) - 0.5 * grad, atol=2e-6)


def test_the_bare_base_is_measured_and_given_back(make, tmp_path):
    model, base, start = make()
    ids, labels = batch()
    bare = float(model(input_ids=ids, labels=labels).loss.detach())
    moved = float(moved_model(model, start)(input_ids=ids, labels=labels).loss.detach())
    placed = base.place(start, Trained(full=True))
    for variant, wanted in (("base", bare), ("adapter", moved), ("without_prompt", moved)):
        found = placed.evaluate_loss(ids, labels, variant)
        assert found.total / found.tokens == pytest.approx(wanted, rel=1e-5)
    base.clear()
    stored = load_file(tmp_path / "model.safetensors")
    for name, value in base.model.named_parameters():
        assert np.array_equal(value.numpy(), stored[name])
        assert not value.requires_grad


def test_a_base_in_bfloat16_is_trained_in_float32(make, tmp_path, write_tokenizer):
    make()
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="bfloat16").save_pretrained(
        tmp_path / "half"
    )
    write_tokenizer(tmp_path / "half")
    base = load_base(tmp_path / "half", dtype=torch.bfloat16)
    placed = base.place(start_of(tmp_path / "half", FreshStart), Trained(full=True))
    assert {value.dtype for value in placed.trained.values()} == {torch.float32}
    ids, labels = batch()
    placed.backward_loss(ids, labels)
    assert {value.grad.dtype for value in placed.trained.values()} == {torch.float32}
    assert all(not np.any(value) for value in placed.update().values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.norm.weight": (31,)}, r"model\.norm\.weight as \(31,\); in the base model it is"),
        ({"extra": (2, 2)}, r"extra as \(2, 2\); in the base model it is None"),
    ],
)
def test_weights_of_another_base_are_refused(make, changes, words):
    _, base, start = make()
    start.weights |= changes
    with pytest.raises(AdapterError, match=words):
        base.place(start, Trained(full=True))


def test_an_adapter_without_weights_has_none_to_train(make):
    _, base, _ = make()
    with pytest.raises(AdapterError, match="no weights to train"):
        base.place(FreshStart(base.targets, 2, 0, 32, 1), Trained(full=True))
