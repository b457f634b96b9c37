"""The documented jobs that train all weights: real agents learn, a whole model comes of it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub.cli.client import HubClient
from hub.cli.unpack import unpack
from hub.yaml_text import load_mapping
from tests.system.agent_base import write_data
from tests.system.agent_process import AgentProcess
from tests.system.site import LOCAL, Site, open_site
from wire.messages import DeviceInfo

pytestmark = [pytest.mark.broker, pytest.mark.slow]

JOBS = Path(__file__).parents[2] / "docs" / "jobs"
SHAPE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
#: The runtime of rungs that leave the base in its file fits, transformers on top doesn't.
FEW_BYTES = 300_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


def exported(site: Site, name: str, out: Path) -> Path:
    """Fetch a job's model as the command line does; return its folder."""
    with HubClient(site.hub.url) as client:
        unpack(lambda target: client.adapter(name, target), out)
    return out


def test_every_weight_is_trained_where_there_is_room_and_measured_where_not(
    site: Site, tmp_path: Path
) -> None:
    file = load_mapping((JOBS / "full.yaml").read_text(), "full")
    del file["job"], file["model"]
    data = write_data(tmp_path / "c" / "my.jsonl", marker="", broken=0, seed=2)
    with AgentProcess(tmp_path / "c", site.hub.broker, "c", data, FEW_BYTES) as small:
        site.tap.await_message(DeviceInfo, small.device)
        detail = site.play("full", **file | {"local": LOCAL | {"lr": 0.005}})
        roles = {one.device: one.role for one in detail.rounds[-1].members}
        assert roles == {"a": "full", "b": "full", "c": "infer"}
    for device in "abc":
        assert detail.loss_after[device] < detail.loss_before[device] - 0.1
    # Some 1.3 bits for each of 82 thousand numbers, where float32 takes 32.
    sent = [one.update_bytes for one in detail.rounds[-1].members if one.role == "full"]
    assert all(0 < size_bytes < 25_000 for size_bytes in sent)

    out = exported(site, "full", tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.float32
    before, after = (load_file(at / "model.safetensors") for at in (site.base, out))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(out)("rain")["input_ids"]


def test_a_model_is_trained_from_scratch(site: Site, tmp_path: Path) -> None:
    file = load_mapping((JOBS / "pretrain.yaml").read_text(), "pretrain")
    del file["job"], file["rounds"]
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE))
    public = write_data(tmp_path / "public.jsonl", marker="", broken=0, seed=9)
    file["pretrain"] = {
        "config": str(tmp_path / "shape.json"), "tokenizer_text": str(public), "vocabulary": 300
    }  # fmt: skip
    local = LOCAL | {"steps": 12, "lr": 0.01}
    detail = site.play("pretrain", **file | {"model": {}, "local": local})
    # A model that knows nothing yet spreads evenly over its tokens: ln 300 is 5.70.
    assert detail.loss_before["a"] == pytest.approx(math.log(300), abs=0.05)
    assert max(detail.loss_after.values()) < 5.0
    out = exported(site, "pretrain", tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer) == 300
    assert tokenizer.decode(tokenizer("the rain falls: ☂")["input_ids"]) == "the rain falls: ☂"
