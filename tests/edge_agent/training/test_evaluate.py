"""Held-out losses of the three variants, over the same tokens."""

import math
import sys

import pytest
import torch

from edge_agent.errors import AdapterError
from edge_agent.training.base import load_base
from edge_agent.training.batches import padded
from edge_agent.training.contract import Trained
from edge_agent.training.data import Example
from edge_agent.training.evaluate import evaluate
from edge_agent.training.measuring import capped
from edge_agent.training.start import PackedStart

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

EXAMPLES = [
    Example(None, "some words that nobody trained on"),
    Example("a question", "and its answer"),
    Example(None, "and a third text"),
]


@pytest.fixture
def base(llama):
    return load_base(llama)


@pytest.fixture
def placed(base, llama, make_adapter):
    saved = make_adapter(llama, rank=4, tokens=3)
    return base.place(PackedStart(saved.manifest, saved.parts), Trained(rank=2, prompt=False))


def losses(placed, rows, variants, batch=4):
    done = []
    found = evaluate(placed, rows, variants, batch, done.append)
    assert done == list(range(1, len(found) + 1))
    return {evaluation.variant: evaluation for evaluation in found}


def by_hand(model, rows):
    """Sum of the negative log probabilities of each labelled token, row by row."""
    total = 0.0
    for row in rows:
        ids, labels = padded([row])
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0].double().log_softmax(-1)
        for place_, label in enumerate(labels[0].tolist()):
            if place_ > 0 and label >= 0:
                total -= float(logs[place_ - 1, label])
    return total


def test_base_is_the_loss_of_the_bare_model(placed, base, llama):
    rows = base.encoder.rows(EXAMPLES, 20)
    tokens = sum(row.targets for row in rows)
    found = losses(placed, rows, ["base"])["base"]
    assert found.tokens == tokens
    assert found.loss == pytest.approx(by_hand(load_base(llama).model, rows) / tokens, rel=1e-5)


def test_without_prompt_has_the_factors_but_no_prompt(placed, base):
    rows = base.encoder.rows(EXAMPLES, 20)
    found = losses(placed, rows, ["without_prompt", "adapter", "base"])
    tokens = found["base"].tokens
    want = by_hand(placed.model, rows) / tokens
    assert found["without_prompt"].loss == pytest.approx(want, rel=1e-5)
    assert len({round(evaluation.loss, 3) for evaluation in found.values()}) == 3
    assert {evaluation.tokens for evaluation in found.values()} == {tokens}


def test_rows_at_a_time_change_no_loss(placed, base):
    rows = base.encoder.rows(EXAMPLES, 20)
    one, many = (losses(placed, rows, ["adapter"], batch)["adapter"].loss for batch in (1, 16))
    assert one == pytest.approx(many, rel=1e-5)


def test_nothing_held_out_tells_nothing(placed):
    assert losses(placed, [], ["base", "adapter"]) == {}


def test_an_unknown_variant_is_refused(placed, base):
    with pytest.raises(AdapterError, match="variant is 'other'"):
        losses(placed, base.encoder.rows(EXAMPLES, 20), ["other"])


def test_the_text_is_capped_at_the_row_that_completes_the_cap(base):
    rows = base.encoder.rows([Example(None, "x" * 400)], 20)  # rows of 19 predicted tokens
    assert len(capped(rows, 50)) == math.ceil(50 / 19)
    assert capped(rows, 10**6) == rows


def test_a_loss_is_taken_on_as_many_tokens_as_asked_for(placed, base):
    rows = base.encoder.rows([Example(None, "x" * 400)], 20)  # rows of 19 predicted tokens
    few, all_ = (
        evaluate(placed, rows, ["base"], 4, lambda _: None, tokens=tokens)[0].tokens
        for tokens in (50, sys.maxsize)
    )
    assert few == 3 * 19
    assert all_ == sum(row.targets for row in rows)
