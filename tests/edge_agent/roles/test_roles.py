"""What every role promises, over all that are registered."""

import json

import msgspec
import pytest
import torch

from edge_agent.errors import AdapterError
from edge_agent.roles import catalogue
from edge_agent.training.bases import open_base
from edge_agent.training.data import Example
from edge_agent.training.start import PackedStart
from edge_agent.training.train import train
from wire.messages import LocalWork
from wire.shape import parameter_shapes

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

WORK = LocalWork(steps=2, batch=2, seq_len=16, optimizer="adamw", lr=0.01, seed=1)


def test_the_roles_of_the_design_are_found():
    assert {"lora", "prompt", "full", "infer"} <= catalogue().keys()


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_role_trains_what_it_says_and_nothing_else(
    name, llama, make_adapter, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    role = catalogue()[name]
    saved = make_adapter(llama, rank=4, tokens=3)
    weights = parameter_shapes(json.loads((llama / "config.json").read_text()))
    whole = msgspec.structs.replace(saved.manifest, parts=[], rank=0, tokens=0, weights=weights)
    for rung in role.rungs:
        base = open_base(llama, rung)
        manifest = whole if name == "full" else saved.manifest
        placed = base.place(PackedStart(manifest, saved.parts), role.trained(rung, 2))
        wanted = {
            "lora": set(saved.manifest.expected_lora(2)),
            "prompt": {"prompt"},
            "full": set(weights),
        }.get(name)
        if rung in ("core", "forward-only"):
            wanted = {f"{target}.core" for target in saved.manifest.shapes}
        assert set(placed.trained) == (wanted or set())
        without_backprop = rung == "forward-only"  # told by losses, in `test_forward_only`
        assert (role.trains or without_backprop) == bool(wanted)
        if not role.trains:
            continue
        before = {key: value.detach().clone() for key, value in placed.trained.items()}
        rows = base.encoder.rows([Example(None, "words " * 20)], 16)
        train(placed, rows, WORK, role.weight_decay, lambda *_: None)
        assert all(not torch.equal(before[key], value) for key, value in placed.trained.items())


def test_a_lora_task_needs_a_rank():
    with pytest.raises(AdapterError, match="rank is 0"):
        catalogue()["lora"].trained("streamed", 0)
