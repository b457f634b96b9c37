"""Real agents over a real broker train every weight; transformers loads what comes of it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from hub.cli.unpack import unpack
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text

pytestmark = [pytest.mark.broker, pytest.mark.slow]

LOCAL = {"steps": 6, "batch": 4, "seq_len": 48, "min_seq_len": 48, "lr": 0.002}


@pytest.fixture
def agents(broker: Mosquitto, tmp_path: Path) -> Iterator[list[AgentProcess]]:
    """Two agents that can hold the model with all that training needs."""
    found = []
    for seed, device in enumerate("ab"):
        data = write_data(tmp_path / device / "my.jsonl", marker="", seed=seed)
        found.append(AgentProcess(tmp_path / device, broker.url, device, data, 900_000_000))
    for agent in found:
        agent.start()
    yield found
    for agent in found:
        agent.close()


def ended(hub: HubProcess, name: str) -> JobDetail:
    def over() -> JobDetail | None:
        detail = hub.job(name)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {name}", over, 240)
    assert detail.summary.phase == "done", (detail.summary, hub.log[-3000:])
    return detail


def exported(hub: HubProcess, name: str, folder: Path) -> Path:
    """Return the folder of a job's model, fetched as the command line fetches it."""
    out = folder / f"{name}-exported"
    with HubClient(hub.url) as client:
        unpack(lambda target: client.adapter(name, target), out)
    return out


def test_a_whole_model_is_trained_and_exported(
    hub: HubProcess, agents: list[AgentProcess], tmp_path: Path
) -> None:
    base = write_trainable_base(tmp_path / "model")
    hub.submit(
        job_text("whole", base, method="full", cohort={"min": 2, "max": 2}, local=LOCAL, seed=1)
    )
    detail = ended(hub, "whole")
    assert {one.role for one in detail.rounds[0].members} == {"full"}
    for device in "ab":
        assert detail.loss_after[device] < detail.loss_before[device] - 0.1
    # A quarter of a byte for each of 71 thousand numbers, where float32 would take four.
    assert all(0 < one.update_bytes < 40_000 for one in detail.rounds[1].members)

    out = exported(hub, "whole", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.float32
    before, after = (load_file(at / "model.safetensors") for at in (base, out))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(out)("rain")["input_ids"]


def test_a_model_is_trained_from_scratch(
    hub: HubProcess, agents: list[AgentProcess], tmp_path: Path
) -> None:
    shape = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    (tmp_path / "shape.json").write_text(json.dumps(shape))
    public = write_data(tmp_path / "public.jsonl", marker="", seed=9)
    settings = json.loads(job_text("fresh", tmp_path, local=LOCAL | {"lr": 0.01}, rounds=3))
    del settings["model"]
    settings |= {
        "method": "pretrain",
        "pretrain": {
            "config": str(tmp_path / "shape.json"),
            "tokenizer_text": str(public),
            "vocabulary": 300,
        },
        "strategy": "diloco",
        "cohort": {"min": 2, "max": 2},
    }
    hub.submit(json.dumps(settings))
    detail = ended(hub, "fresh")
    # A model that knows nothing yet spreads over its tokens evenly: ln 300 = 5.70.
    assert detail.loss_before["a"] == pytest.approx(math.log(300), abs=0.05)
    assert max(detail.loss_after.values()) < 5.0
    out = exported(hub, "fresh", tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer) == 300
    assert tokenizer.decode(tokenizer("the rain falls: ☂")["input_ids"]) == "the rain falls: ☂"
