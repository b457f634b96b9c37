"""The piecewise loss against transformers' own."""

import pytest
import torch

from edge_agent.training import loss as module
from edge_agent.training.base import load_base
from edge_agent.training.loss import backward_loss, evaluate_loss
from wire.labels import IGNORED

IDS = torch.tensor([[5, 250, 7, 99, 41], [100, 3, 3, 8, 0]])
LABELS = torch.tensor([[IGNORED, IGNORED, 7, 99, 41], [100, 3, 3, IGNORED, IGNORED]])
PREDICTED = 5  # 7, 99, 41 and 3, 3: a first token is never predicted


@pytest.fixture(params=[module.PIECE_LOGITS, 2 * 259])
def pieces(request, monkeypatch):
    """Take all positions at once, and two at a time."""
    monkeypatch.setattr(module, "PIECE_LOGITS", request.param)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_loss_and_gradients_are_those_of_transformers(family, make_base, pieces):
    ours, theirs = (load_base(make_base(family)).model for _ in range(2))
    for model in (ours, theirs):
        model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    mean = theirs(input_ids=IDS, labels=LABELS).loss
    mean.backward()
    found = backward_loss(ours, None, IDS, LABELS)
    assert found.tokens == PREDICTED
    assert found.total / PREDICTED == pytest.approx(float(mean.detach()), rel=1e-5)
    assert torch.allclose(
        ours.model.layers[0].mlp.up_proj.weight.grad,
        theirs.model.layers[0].mlp.up_proj.weight.grad,
        atol=1e-6,
        rtol=1e-4,
    )
    evaluated = evaluate_loss(ours, None, IDS, LABELS)
    assert evaluated.total == pytest.approx(found.total, rel=1e-6)


def test_padding_on_the_right_changes_nothing(llama):
    model = load_base(llama).model
    wide = torch.cat([IDS, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    labels = torch.cat([LABELS, torch.full((2, 3), IGNORED)], dim=1)
    plain = evaluate_loss(model, None, IDS, LABELS)
    padded = evaluate_loss(model, None, wide, labels)
    assert padded.tokens == plain.tokens
    assert padded.total == pytest.approx(plain.total, rel=1e-5)


def test_a_soft_prompt_changes_the_loss_but_not_the_tokens(llama):
    model = load_base(llama).model
    without = evaluate_loss(model, None, IDS, LABELS)
    behind = evaluate_loss(model, torch.ones(2, 32), IDS, LABELS)
    assert behind.tokens == without.tokens
    assert behind.total != pytest.approx(without.total, rel=1e-3)
