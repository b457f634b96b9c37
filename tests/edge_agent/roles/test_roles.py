"""What every role promises, over all that are registered."""

import pytest

from edge_agent.errors import AdapterError
from edge_agent.roles import catalogue
from edge_agent.training.base import load_base
from edge_agent.training.data import Example
from wire.messages import LocalWork

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

WORK = LocalWork(steps=2, batch=2, seq_len=16, optimizer="adamw", lr=0.01, seed=1)


def test_the_roles_of_the_design_are_found():
    assert {"lora", "prompt", "infer"} <= catalogue().keys()


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_role_trains_what_it_says_and_nothing_else(name, llama, make_adapter):
    role = catalogue()[name]
    saved = make_adapter(llama, rank=4, tokens=3)
    base = load_base(llama)
    placed = role.place(base, saved.manifest, saved.parts, 2)
    metrics = role.train(
        placed, base.encoder.rows([Example(None, "words " * 20)], 16), WORK, lambda *_: None
    )
    wanted = {"lora": set(saved.manifest.expected_lora(2)), "prompt": {"prompt"}}.get(name, set())
    assert set(placed.update()) == wanted
    assert (metrics is not None) == role.trains == bool(wanted)
    if name == "lora":  # every factor moved; the prompt did not
        assert all(value.any() for value in placed.update().values())
        assert not placed.prompt.requires_grad


def test_a_lora_task_needs_a_rank(llama, make_adapter):
    saved = make_adapter(llama)
    with pytest.raises(AdapterError, match="rank is 0"):
        catalogue()["lora"].place(load_base(llama), saved.manifest, saved.parts, 0)
