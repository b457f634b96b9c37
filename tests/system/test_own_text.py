"""A hub that trains on public text between rounds, in a worker with torch: helped, hurt, killed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from hub.errors import ConfigError
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess, is_gone
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text

pytestmark = [pytest.mark.broker, pytest.mark.slow]

LONG = 1_000_000  # steps: whoever waits for them waits in vain
LORA = {"rank": 4, "min_rank": 4}
LOCAL = {"steps": 4, "batch": 4, "seq_len": 48, "min_seq_len": 48, "lr": 0.02}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_trainable_base(tmp_path / "model")


def write_public(path: Path, seed: int) -> str:
    """Write text of another kind than the devices': sums. Return the path."""
    numbers = np.random.default_rng(seed).integers(0, 50, size=(80, 2))
    lines = [f"the sum of {a} and {b} is {a + b}, of course" for a, b in numbers]
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    return str(path)


def own_text(folder: Path, **settings: Any) -> dict[str, Any]:
    """Return a job file's part ``hub``."""
    return {
        "public_data": write_public(folder / "public.jsonl", 1),
        "validation": write_public(folder / "validation.jsonl", 2),
        **settings,
    }


def await_end(hub: HubProcess, name: str) -> JobDetail:
    def ended() -> JobDetail | None:
        detail = hub.job(name)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {name}", ended, 280)
    return detail


def await_worker(hub: HubProcess, fleet: Fleet, name: str) -> psutil.Process:
    """Serve a job's offers until the hub trains on its own text; return the process that does."""

    def found() -> psutil.Process | None:
        fleet.serve()
        detail = hub.job(name)
        assert detail.summary.phase not in ENDED, detail
        children = psutil.Process(hub.pid).children()
        # For a moment, a process that was just started is its parent's double.
        return next((one for one in children if one.cmdline()[-1:] == ["edge_agent.worker"]), None)

    worker: psutil.Process = poll("the hub's worker", found)
    return worker


@pytest.mark.timeout(600)  # a busy machine takes minutes to start torch four times
def test_public_text_lowers_the_loss_on_other_text_of_its_kind(
    hub: HubProcess, broker: Mosquitto, model: Path, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "private.jsonl", marker="m")
    part = own_text(tmp_path, steps=20)
    measured, devices = {}, {}
    with AgentProcess(tmp_path / "agent", broker.url, "a", data):
        for name, given in (("with", part), ("without", {"validation": part["validation"]})):
            changes = {"rounds": 1, "lora": LORA, "local": LOCAL, "hub": given}
            hub.submit(job_text(name, model, method="lora", **changes))
            job = await_end(hub, name)
            assert job.summary.phase == "done", (job.summary, hub.log[-3000:])
            (only,) = job.rounds
            assert only.problem is None
            measured[name] = only.own_text
            devices[name] = job.loss_before["a"], job.loss_after["a"]
    for own in measured.values():
        assert own["validation_loss"] < own["validation_base_loss"]
    bases = {own["validation_base_loss"] for own in measured.values()}
    assert len(bases) == 1, "the same base on the same text"
    losses = {name: own["validation_loss"] for name, own in measured.items()}
    assert losses["with"] < losses["without"] - 0.05
    # The adapter that the device got has both: its own loss fell, too.
    assert devices["with"][1] < devices["with"][0]
    assert "public_tokens" in measured["with"]
    assert "public_tokens" not in measured["without"]


def test_a_killed_worker_costs_its_share_and_a_killed_hub_nothing(
    hub: HubProcess, fleet: Fleet, model: Path, tmp_path: Path
) -> None:
    part = own_text(tmp_path, steps=LONG, lr=1e-6, max_s=2000, validation=None)
    fleet.join("j", a=("lora", 4), b=("lora", 4))
    changes = {"method": "lora", "lora": LORA, "local": LOCAL, "cohort": {"min": 2, "max": 2}}
    hub.submit(job_text("j", model, hub=part, **changes))
    first = await_worker(hub, fleet, "j")
    first.kill()
    hub.await_event("j", "Published", round=1)
    second = await_worker(hub, fleet, "j")
    hub.kill9()
    poll("the end of a worker without a hub", lambda: is_gone(second))
    hub.start()
    fleet.greet()
    third = await_worker(hub, fleet, "j")
    third.kill()
    detail = fleet.finish(hub, "j")
    assert detail.summary.phase == "done"
    assert hub.accepted("j") == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    for one in detail.rounds:
        assert one.own_text == {}
        assert "hub.public_data: its worker was ended by signal 9" in str(one.problem)
    assert hub.log.count("goes on without hub.public_data") == 2


def test_a_worker_ends_with_its_job_and_with_its_hub(
    hub: HubProcess, fleet: Fleet, model: Path, tmp_path: Path
) -> None:
    part = own_text(tmp_path, steps=LONG, lr=1e-6, max_s=2000)
    device = fleet.add("a", rank=4)
    for name in ("j", "k"):
        device.describe(name)
        hub.submit(job_text(name, model, method="lora", lora=LORA, local=LOCAL, hub=part))
        worker = await_worker(hub, fleet, name)
        if name == "j":
            with HubClient(hub.url) as client:
                assert client.cancel(name).phase == "cancelled"
        else:
            assert hub.stop() == 0
        poll("the end of the worker", lambda one=worker: is_gone(one))
    assert "goes on without" not in hub.log
    hub.start()
    fleet.greet()
    assert await_worker(hub, fleet, "k").is_running(), "the round is combined anew"


def test_what_the_hub_lacks_is_said_at_submission(
    hub: HubProcess, model: Path, tmp_path: Path
) -> None:
    for part, said in (
        ({"public_data": str(tmp_path / "no.txt")}, "there is no such path on the hub"),
        ({"validation": str(model / "config.json")}, "hub.validation is .*; allowed is a .jsonl"),
    ):
        with pytest.raises(ConfigError, match=said):
            hub.submit(job_text("j", model, hub=part))
