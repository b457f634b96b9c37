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

    detail: JobDetail = poll(f"the end of {name}", ended, 200)
    return detail


def await_worker(hub: HubProcess, fleet: Fleet, name: str) -> psutil.Process:
    """Serve a job's offers until the hub trains on its own text; return the process that does."""

    def found() -> psutil.Process | None:
        fleet.serve()
        detail = hub.job(name)
        assert detail.summary.phase not in ENDED, detail
        return next(iter(psutil.Process(hub.pid).children()), None)

    worker: psutil.Process = poll("the hub's worker", found)
    assert worker.cmdline()[-1] == "edge_agent.worker"
    return worker


def test_public_text_lowers_the_loss_on_other_text_of_its_kind(
    hub: HubProcess, broker: Mosquitto, model: Path, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "private.jsonl", marker="m")
    part = own_text(tmp_path, steps=20)
    jobs = {}
    with AgentProcess(tmp_path / "agent", broker.url, "a", data):
        for name, given in (("with", part), ("without", {"validation": part["validation"]})):
            hub.submit(job_text(name, model, method="lora", lora=LORA, local=LOCAL, hub=given))
            jobs[name] = await_end(hub, name)
    losses = {}
    for name, job in jobs.items():
        assert job.summary.phase == "done", (job.summary, hub.log[-3000:])
        assert [one.problem for one in job.rounds] == [None, None]
        losses[name] = [one.own_text["validation_loss"] for one in job.rounds]
    before = {job.rounds[0].own_text["validation_base_loss"] for job in jobs.values()}
    assert len(before) == 1, "the same base on the same text"
    assert "validation_base_loss" not in jobs["with"].rounds[1].own_text
    assert losses["with"][1] < losses["with"][0] < before.pop()
    assert losses["with"][1] < losses["without"][1] - 0.1
    # What a device got is what the hub measured: its own loss fell, too.
    assert jobs["with"].loss_after["a"] < jobs["with"].loss_before["a"]
    assert "public_tokens" not in jobs["without"].rounds[0].own_text
    assert "public_tokens" in jobs["with"].rounds[1].own_text


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


def test_the_hubs_own_text_decides_what_is_released_and_when_the_job_ends(
    hub: HubProcess, fleet: Fleet, model: Path, tmp_path: Path
) -> None:
    """Round 1 brings nothing, and is as good as the base; round 2 brings noise."""
    (device,) = fleet.join("j", a=("lora", 4))
    rules = {
        "publish_if": {"metric": "validation_loss", "max_regression": 0.0},
        "until": {"metric": "validation_loss", "patience": 2, "min_delta": 0.001},
    }
    part = {"validation": write_public(tmp_path / "validation.jsonl", 2)}
    shape = {"method": "lora", "lora": LORA, "local": LOCAL, "codec": "raw", "rounds": 9}
    hub.submit(job_text("j", model, hub=part, **shape, **rules))
    for round_, scale in ((1, 0.0), (2, 0.7)):
        offer = device.await_offer(round_, 60)
        device.take(offer)
        blob = device.make_update(offer, scale=scale, seed=1)  # of noise that does harm
        device.upload(offer, blob)
        device.result(offer, blob)
    detail = fleet.finish(hub, "j", timeout_s=120)
    assert len(detail.rounds) == 2, [(one.phase, one.own_text) for one in detail.rounds]
    nothing, noise = detail.rounds
    base = nothing.own_text["validation_base_loss"]
    assert (nothing.phase, noise.phase) == ("published", "rolled_back")
    assert noise.comparison is not None
    assert noise.comparison.loss == noise.own_text["validation_loss"] > base
    assert nothing.own_text["validation_loss"] == base == noise.comparison.reference
    assert "round 2 was rolled back: its validation_loss is" in hub.log
    assert "validation_loss has not improved by 0.001 nats in 2 rounds" in str(
        detail.summary.reason
    )


def test_what_the_hub_lacks_is_said_at_submission(
    hub: HubProcess, model: Path, tmp_path: Path
) -> None:
    for part, said in (
        ({"public_data": str(tmp_path / "no.txt")}, "there is no such path on the hub"),
        ({"validation": str(model / "config.json")}, "hub.validation is .*; allowed is a .jsonl"),
    ):
        with pytest.raises(ConfigError, match=said):
            hub.submit(job_text("j", model, hub=part))
