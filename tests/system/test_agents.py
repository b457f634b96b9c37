"""Real agents over a real broker: the roles that their memory allows, real rounds, private text.

One fleet of three agents serves the whole file, for each of them imports torch once.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess, agent_command
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import BlobGet, BlobInit, DeviceInfo, DeviceState, Evaluated, Result
from wire.shape import target_modules
from wire.transfer import decode_chunk

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: No word of any code, topic or model: wherever it turns up, private text has leaked.
MARKER = "Zyxomancer-47-Quillwort"

#: Without room to shrink, a role is one rung; so long a batch sets the roles far apart in memory.
RANK, BATCH, SEQ_LEN, TOKENS = 16, 32, 256, 4
SHAPE: dict[str, Any] = {
    "lora": {"rank": RANK, "min_rank": RANK},
    "prompt": {"tokens": TOKENS},
    "local": {
        "steps": 3,
        "batch": BATCH,
        "min_batch": BATCH,
        "seq_len": SEQ_LEN,
        "min_seq_len": SEQ_LEN,
        "lr": 0.02,
    },
}
ROLES = {"large": "lora", "middle": "prompt", "small": "infer"}


def planned(base: Path) -> dict[str, Any]:
    """Return what ``lorikeet-agent plan --json`` says of the job's ladder here."""
    options: dict[str, object] = {
        "model": base, "memory": "1GB", "method": "lora+prompt", "rank": RANK, "min-rank": RANK,
        "batch": BATCH, "min-batch": BATCH, "seq-len": SEQ_LEN, "min-seq-len": SEQ_LEN,
        "prompt-tokens": TOKENS, "threads": 1,
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = agent_command("plan", *words, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def limits(plan: dict[str, Any]) -> dict[str, int]:
    """Return a memory limit for each role, half-way between its rung and the next one above."""
    peaks = {role: [] for role in ("lora", "prompt", "infer")}
    for line in plan["rungs"]:
        peaks[line["role"]].append(line["needs_bytes"])
    least = {role: min(found) for role, found in peaks.items()}
    # All are planned with one measurement of this machine, so that a small gap will do.
    assert least["lora"] > least["prompt"] > least["infer"]
    return {
        "large": max(peaks["lora"]) * 5 // 4,
        "middle": (least["lora"] + least["prompt"]) // 2,
        "small": (least["prompt"] + least["infer"]) // 2,
    }


@dataclass(frozen=True)
class Site:
    """A broker, a hub, three agents, and what a listener heard."""

    folder: Path
    hub: HubProcess
    agents: dict[str, AgentProcess]
    pids: dict[str, int]
    idle_children: dict[str, int]  # how many, before there was any job
    tap: Wiretap
    job: JobDetail


def await_end(hub: HubProcess, name: str) -> JobDetail:
    def ended() -> JobDetail | None:
        detail = hub.job(name)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {name}", ended, 150)
    return detail


def plans_nothing(tap: Wiretap, device: str) -> bool:
    return not tap.messages(DeviceInfo, device)[-1].plans


def start_agents(
    folder: Path, broker: str, memory: dict[str, int]
) -> Iterator[tuple[str, AgentProcess]]:
    for seed, device in enumerate(ROLES):
        data = write_data(
            folder / device / "private" / "my.jsonl",
            marker=MARKER,
            broken=3 if device == "middle" else 0,
            seed=seed,
        )
        yield device, AgentProcess(folder / device, broker, device, data, memory[device])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    base = write_trainable_base(folder / "base")
    memory = limits(planned(base))
    (folder / "broker").mkdir()
    (folder / "hub").mkdir()
    broker = Mosquitto(folder / "broker")
    hub = HubProcess(folder / "hub", broker.url)
    agents = dict(start_agents(folder, broker.url, memory))
    broker.start()
    try:
        with Wiretap(broker.url) as tap:
            hub.start()
            for agent in agents.values():
                agent.start()
            for agent in agents.values():
                tap.await_message(DeviceInfo, agent.device)
            pids = {name: agent.pid for name, agent in agents.items()}
            idle_children = {name: len(agent.children) for name, agent in agents.items()}
            hub.submit(job_text("roles", base, cohort={"min": 2, "max": 9}, **SHAPE))
            job = await_end(hub, "roles")
            yield Site(folder, hub, agents, pids, idle_children, tap, job)
    finally:
        for agent in agents.values():
            agent.close()
        hub.kill9()
        broker.kill()


def test_the_job_is_done(site: Site) -> None:
    assert site.job.summary.phase == "done", (site.job.summary, site.hub.log[-3000:])
    assert [one.phase for one in site.job.rounds] == ["published", "published"]
    assert site.hub.accepted("roles") == [
        (round_, device) for round_ in (1, 2) for device in ("large", "middle")
    ]


def test_each_device_takes_the_role_that_its_memory_allows(site: Site) -> None:
    for device, role in ROLES.items():
        plans = [info.plans for info in site.tap.messages(DeviceInfo, device)]
        told = [one["roles"] for one in plans if "roles" in one]
        assert {one.role for one in told} == {role}, told[-1].reason
        # Once the job is over, there is nothing to plan.
        poll("an end of plans", partial(plans_nothing, site.tap, device))
    for round_ in site.job.rounds:
        members = {one.device: (one.role, one.rank) for one in round_.members}
        assert members["large"] == ("lora", RANK)
        assert members["middle"] == ("prompt", 0)
        assert {one.device: one.reason for one in round_.members}["large"]
    assert site.job.evaluation is not None
    final = {one.device: one.role for one in site.job.evaluation.members}
    assert final == ROLES


def test_losses_fall_from_those_of_a_model_that_knows_nothing(site: Site) -> None:
    """Every one of 259 tokens is about as likely at first: ln 259 = 5.557."""
    job = site.job
    assert set(job.loss_before) == set(job.loss_after) == set(ROLES)
    assert list(job.loss_before.values()) == pytest.approx([math.log(259)] * 3, abs=0.05)
    for device in ROLES:
        assert job.loss_after[device] < job.loss_before[device]
    assert job.summary.base_loss == pytest.approx(math.log(259), abs=0.05)
    assert job.summary.heldout_loss is not None
    assert job.summary.base_loss is not None
    assert job.summary.heldout_loss < job.summary.base_loss
    assert job.without_prompt_loss is not None
    assert job.without_prompt_loss < job.summary.base_loss


def test_each_device_reports_every_variant(site: Site) -> None:
    for device, role in ROLES.items():
        final = [one for one in site.tap.messages(Result, device) if one.round == 3]
        variants = [one.variant for one in final[-1].evaluations]
        assert {"adapter", "without_prompt"} <= set(variants)
        early = {
            one.variant
            for message in site.tap.messages(Evaluated, device)
            for one in message.evaluations
        }
        assert "base" in early | set(variants), role
        assert all(one.tokens > 0 for one in final[-1].evaluations)
        assert final[-1].peak_bytes > 100_000_000  # a worker with torch


def test_an_agent_without_a_job_is_one_process(site: Site) -> None:
    assert site.idle_children == dict.fromkeys(ROLES, 0)


def test_the_supervisor_stays_one_process_and_has_one_worker(site: Site) -> None:
    for name, agent in site.agents.items():
        assert agent.running
        assert agent.pid == site.pids[name]
        assert len(agent.children) == 1
        sessions = {one.session for one in site.tap.messages(DeviceState, name)}
        assert len(sessions) == 1


def test_broken_lines_are_skipped_and_counted(site: Site) -> None:
    for device, broken in (("large", 0), ("middle", 3)):
        data = site.tap.messages(DeviceInfo, device)[-1].data
        assert data is not None
        assert (data.examples, data.skipped) == (60, broken)
        assert ("3 broken lines were skipped; 60 examples" in site.agents[device].log) == (
            broken > 0
        )
    with HubClient(site.hub.url) as client:
        info = client.device("middle").info
    assert info is not None
    assert info.data is not None
    assert info.data.skipped == 3


def test_private_text_stays_where_it_is(site: Site) -> None:
    """ARCHITECTURE.md, invariant 1."""
    received = site.tap.received
    kinds = {route.kind for one in received if (route := site.tap.topics.parse(one.topic))}
    assert {"upload_chunk", "slice_chunk", "request", "telemetry", "device_info"} <= kinds
    assert site.tap.messages(BlobInit, "large")
    leaks = [one.topic for one in received if MARKER.encode() in one.payload]
    assert leaks == []
    assert not [one for one in received if MARKER in one.topic]

    found = [
        path.relative_to(site.folder)
        for path in sorted(site.folder.rglob("*"))
        if path.is_file() and MARKER.encode() in path.read_bytes()
    ]
    assert found == [Path(device) / "private" / "my.jsonl" for device in sorted(ROLES)]
    searched = {path.suffix for path in site.folder.rglob("*") if path.is_file()}
    assert {".db", ".log"} <= searched
    for device in ROLES:
        assert (site.agents[device].state / "worker.log").is_file()


def test_a_base_of_the_qwen2_family_trains_as_well(site: Site) -> None:
    """The same, warm agents take it: another base in place of the first."""
    qwen2 = write_trainable_base(site.folder / "qwen2", "qwen2")
    workers = {name: agent.worker().pid for name, agent in site.agents.items()}
    site.hub.submit(job_text("qwen2", qwen2, rounds=1, cohort={"min": 2, "max": 9}, **SHAPE))
    job = await_end(site.hub, "qwen2")
    assert job.summary.phase == "done", (job.summary, site.hub.log[-3000:])
    assert site.hub.accepted("qwen2") == [(1, "large"), (1, "middle")]
    for device in ROLES:
        assert job.loss_after[device] < job.loss_before[device]
    assert {name: agent.worker().pid for name, agent in site.agents.items()} == workers


def lora_numbers(site: Site) -> int:
    """Return how many numbers LoRA factors of the job's rank have."""
    config = json.loads((site.folder / "base" / "config.json").read_text())
    return RANK * sum(out + inp for out, inp in target_modules(config).values())


def test_rounds_are_followed_by_what_was_published_once(site: Site) -> None:
    parts: dict[str, dict[bytes, int]] = {"lora-0": {}, "prompt-0": {}, "manifest": {}}
    for one in site.tap.received:
        if "/job/roles/slice/" in one.topic:
            chunk, sizes = decode_chunk(one.payload), parts[one.topic.rpartition("/")[2]]
            sizes[chunk.key] = sizes.get(chunk.key, 0) + len(chunk.data)
    # The start, as a whole, and what each of the two rounds changed.
    assert [len(sizes) for sizes in parts.values()] == [3, 3, 3]
    whole_bytes, *changed_bytes = parts["lora-0"].values()
    assert whole_bytes > 2 * lora_numbers(site)  # bfloat16
    # 1.25 bits a number, and some bytes for each of many small tensors.
    assert max(changed_bytes) < whole_bytes / 8
    # A device that planned while the start was broadcast has to ask for that, but for nothing more.
    later = {key for sizes in parts.values() for key in list(sizes)[1:]}
    asked = [one.sha256 for device in ROLES for one in site.tap.messages(BlobGet, device)]
    assert not later & {bytes.fromhex(sha256)[:8] for sha256 in asked}
    assert not any("gathered whole" in agent.log for agent in site.agents.values())
