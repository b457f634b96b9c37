"""Training: it learns, the seed fixes it, and it says when it diverges."""

import pytest
import torch

from edge_agent.errors import DataError
from edge_agent.training.adapter import place
from edge_agent.training.base import load_base
from edge_agent.training.data import Example
from edge_agent.training.errors import DivergedError
from edge_agent.training.train import train
from wire.messages import LocalWork

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

EXAMPLES = [Example(None, "the same words again and again, ") for _ in range(20)]


def work(**changes):
    settings = {
        "steps": 12, "batch": 4, "seq_len": 24, "optimizer": "adamw", "lr": 0.02, "seed": 3,
    }  # fmt: skip
    return LocalWork(**{**settings, **changes})


@pytest.fixture
def run(llama, make_adapter):
    base = load_base(llama)
    saved = make_adapter(llama, rank=4, tokens=3)

    def run(local, rank=4, train_prompt=False, examples=EXAMPLES):
        placed = place(base, saved.manifest, saved.parts, rank=rank, train_prompt=train_prompt)
        steps = []
        rows = base.encoder.rows(examples, local.seq_len)
        metrics = train(placed, rows, local, 0.0, lambda step, loss: steps.append((step, loss)))
        return metrics, steps, placed

    return run


@pytest.mark.parametrize(("rank", "train_prompt"), [(4, False), (2, False), (0, True)])
def test_the_loss_falls_and_every_step_is_told(run, rank, train_prompt):
    metrics, steps, _ = run(work(), rank, train_prompt)
    assert metrics.loss_last < metrics.loss_first - 0.1
    assert [step for step, _ in steps] == list(range(1, 13))
    assert (steps[0][1], steps[-1][1]) == (metrics.loss_first, metrics.loss_last)
    assert metrics.steps == 12


def test_tokens_are_those_a_loss_was_taken_on(run):
    # 20 texts of 32 bytes and an end mark are 660 tokens: 27 rows of 24, of which 23 are predicted.
    # Two steps of three rows hold full rows only, or the last one with 12 tokens.
    metrics, _, _ = run(work(steps=2, batch=3))
    assert metrics.tokens in (2 * 3 * 23, 2 * 3 * 23 - 12)


def test_the_seed_fixes_the_update(run):
    first, second = (run(work())[2].update() for _ in range(2))
    other = run(work(seed=4))[2].update()
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


def test_the_base_itself_is_not_touched(run, llama):
    _, _, placed = run(work())
    before = dict(load_base(llama).model.named_parameters())
    after = {
        name.replace(".base_layer", ""): value
        for name, value in placed.model.named_parameters()
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_no_number_ends_the_task(run):
    with pytest.raises(DivergedError, match=r"the learning rate is 1e\+30"):
        run(work(lr=1e30))


def test_no_rows_are_refused(run):
    with pytest.raises(DataError, match="no row"):
        run(work(), examples=[])
