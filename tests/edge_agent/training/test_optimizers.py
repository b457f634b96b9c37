"""From a task's words to its optimiser."""

import pytest
import torch

from edge_agent.errors import AgentError
from edge_agent.training.adamw import AdamW
from edge_agent.training.optimizers import check_words, optimizer_for
from edge_agent.training.sgd import SGD
from wire.messages import LocalWork


def work(**changes):
    settings = {
        "steps": 1, "batch": 1, "seq_len": 8, "optimizer": "sgd", "lr": 0.1, "seed": 0,
    }  # fmt: skip
    return LocalWork(**{**settings, **changes})


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("sgd", SGD)])
def test_each_name_is_its_optimiser(name, kind):
    assert isinstance(optimizer_for(work(optimizer=name), [], 0.0), kind)


def stepped(**changes):
    value = torch.tensor([1.0], requires_grad=True)
    optimizer = optimizer_for(work(**changes), [value], weight_decay=0.5)
    value.grad = torch.tensor([0.0])
    optimizer.step(lr=0.1, clip=None)
    return value.item()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_roles_weight_decay_counts_unless_the_work_has_one(name):
    # 1 - 0.1 · 0.5, and 1 - 0.1 · 0.2: the two optimisers agree where the gradient is zero.
    assert stepped(optimizer=name) == pytest.approx(0.95)
    assert stepped(optimizer=name, weight_decay=0.2) == pytest.approx(0.98)
    assert stepped(optimizer=name, weight_decay=0.0) == 1.0


def test_the_momentum_is_the_works():
    assert optimizer_for(work(momentum=0.9), [torch.zeros(1)], 0.0).state()[0].keys() == {
        "velocity"
    }
    assert optimizer_for(work(), [torch.zeros(1)], 0.0).state() == [{}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, r"optimizer is 'lion'; known here are adamw, sgd\. Update"),
        ({"schedule": "steps"}, r"schedule is 'steps'; known here are constant, linear, cosine"),
        ({"momentum": 1.0}, r"momentum is 1\.0; must be from 0 to below 1"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1; must be from 0 to 1"),
        ({"clip": 0.0}, r"clip is 0\.0; must be above 0"),
    ],
)
def test_words_of_a_newer_hub_are_refused(changes, message):
    with pytest.raises(AgentError, match=message):
        check_words(work(**changes))
