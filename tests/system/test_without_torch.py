"""A device that can't import torch takes part in real rounds, beside one that trains with it.

The hub makes the GGUF file that it reads; what it measures is what the other one measures on the
same text, within what the file's eight bits keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_agent.runtimes import VARIABLE
from hub.api.control import JobDetail
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.test_agents import await_end
from tests.system.wiretap import Wiretap
from wire.derived import BASE_KEY
from wire.gguf_header import read_header
from wire.messages import DeviceInfo, Result

pytestmark = [
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llama_cpp") is None, reason="llama-cpp-python isn't installed: make llama"
    ),
]

MARKER = "Quillwort-61-Zyxomancer"
ENGINE, TORCH = "phone", "desk"
LOCAL = {"steps": 8, "batch": 2, "seq_len": 64, "min_seq_len": 64, "lr": 0.02}
FORWARD = {"side": 2, "steps": 14, "batch": 4}


@dataclass(frozen=True)
class Fleet:
    """What two rounds left behind."""

    agents: dict[str, AgentProcess]
    hub: HubProcess
    tap: Wiretap
    job: JobDetail
    refused: JobDetail
    maps: str  # of the engine's worker: what is loaded there


def worker_maps(agent: AgentProcess) -> str:
    """Return what the agent's worker has mapped, once it has its libraries."""
    pid = agent.worker().pid

    def loaded() -> str | None:
        maps = Path(f"/proc/{pid}/maps").read_text()
        return maps if "libllama" in maps else None

    found: str = poll("the engine in the worker", loaded)
    return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    base = write_trainable_base(folder / "base")
    data = write_data(folder / "my.jsonl", marker=MARKER, examples=120)
    for name in ("broker", "hub"):
        (folder / name).mkdir()
    broker = Mosquitto(folder / "broker")
    hub = HubProcess(folder / "hub", broker.url)
    words = {ENGINE: {VARIABLE: "llama.cpp"}, TORCH: {}}
    agents = {
        name: AgentProcess(folder / name, broker.url, name, data, environment=one)
        for name, one in words.items()
    }
    broker.start()
    try:
        with Wiretap(broker.url) as tap:
            hub.start()
            for agent in agents.values():
                agent.start()
            for agent in agents.values():
                tap.await_message(DeviceInfo, agent.device)
            local = LOCAL | {"forward": FORWARD}
            hub.submit(job_text("notes", base, cohort={"min": 2, "max": 9}, local=local))
            maps = worker_maps(agents[ENGINE])
            job = await_end(hub, "notes")
            hub.submit(
                job_text("whole", base, cohort={"min": 1, "max": 9}, method="full", local=LOCAL)
            )
            refused = await_end(hub, "whole")
            yield Fleet(agents, hub, tap, job, refused, maps)
    finally:
        for agent in agents.values():
            agent.close()
        hub.kill9()
        broker.kill()


def test_it_evaluates_in_each_round_what_torch_evaluates(fleet: Fleet) -> None:
    assert fleet.job.summary.phase == "done", (fleet.job.summary, fleet.hub.log[-3000:])
    for one in fleet.job.rounds:
        members = {member.device: member for member in one.members}
        assert (members[ENGINE].role, members[ENGINE].rung) == ("infer", "forward-only")
        assert members[ENGINE].state == "delivered", fleet.agents[ENGINE].log[-3000:]
        assert members[TORCH].role == "lora"
        wanted = members[TORCH].heldout_loss
        assert members[ENGINE].heldout_loss == pytest.approx(wanted, rel=1e-2)
    for losses in (fleet.job.loss_before, fleet.job.loss_after):
        assert losses[ENGINE] == pytest.approx(losses[TORCH], rel=1e-2)
    assert fleet.job.loss_after[ENGINE] < fleet.job.loss_before[ENGINE]


def test_it_trains_without_backprop_and_the_hub_takes_what_it_sends(fleet: Fleet) -> None:
    assert fleet.hub.accepted("notes") == [
        (round_, device) for round_ in (1, 2) for device in (TORCH, ENGINE)
    ]
    for one in fleet.job.rounds:
        (member,) = [member for member in one.members if member.device == ENGINE]
        assert (member.steps, member.rank) == (FORWARD["steps"], FORWARD["side"])
        assert 0 < member.update_bytes <= 1024
        assert member.loss_last is not None


def test_it_reads_a_file_that_was_made_of_the_job_s_base(fleet: Fleet) -> None:
    digest = fleet.job.summary.base_digest
    models = fleet.agents[ENGINE].state / "models"
    assert [path.name for path in models.iterdir()] == [f"{digest}-gguf-q8_0"]
    (file,) = models.glob("*/*.gguf")
    assert read_header(file).metadata[BASE_KEY] == digest
    assert (fleet.hub.folder / "state" / "derived").is_dir()
    # The one with torch took the base itself.
    assert [path.name for path in (fleet.agents[TORCH].state / "models").iterdir()] == [digest]


def test_its_worker_has_no_torch_and_its_plan_says_what_it_computes_with(fleet: Fleet) -> None:
    assert "libtorch" not in fleet.maps
    told = fleet.tap.messages(DeviceInfo, ENGINE)
    assert {one.runtimes[0] for one in told} == {"llama.cpp"}
    assert {one.runtimes[0] for one in fleet.tap.messages(DeviceInfo, TORCH)} == {"torch"}
    plans = [one.plans["notes"] for one in told if "notes" in one.plans]
    assert {(one.rung, one.derived) for one in plans} == {("forward-only", "gguf-q8_0")}
    assert plans[-1].reason.startswith("forward-only (llama.cpp, gguf-q8_0): runtime ")
    results = [one for one in fleet.tap.messages(Result, ENGINE) if one.job == "notes"]
    assert results
    assert all(one.peak_bytes < one.predicted_peak_bytes for one in results)


def test_a_job_that_moves_all_weights_leaves_it_out_with_the_reason(fleet: Fleet) -> None:
    assert fleet.refused.summary.phase == "done"
    reasons = {one.left_out.get(ENGINE) for one in fleet.refused.rounds}
    assert reasons == {"none: method full moves all weights, which llama.cpp can't have moved"}


def test_no_word_of_the_text_is_sent_or_written(fleet: Fleet) -> None:
    assert not [one.topic for one in fleet.tap.received if MARKER.encode() in one.payload]
    folder = fleet.agents[ENGINE].state.parent
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if MARKER.encode() in path.read_bytes()]
