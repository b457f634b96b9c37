"""Real agents that are hit in the middle of a task: killed, interrupted, doubled."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess, is_gone
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import (
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    Hello,
    Refused,
    Result,
    RungPlan,
    Telemetry,
    Welcome,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]

#: Some seconds of training, so that there is a middle to be hit in; no room but in the batch.
SHAPE: dict[str, Any] = {
    "lora": {"rank": 4, "min_rank": 4},
    "local": {
        "steps": 200,
        "batch": 8,
        "min_batch": 2,
        "seq_len": 128,
        "min_seq_len": 128,
    },
    "cohort": {"min": 1, "max": 9},
    "rounds": 1,
}


@dataclass(frozen=True)
class Site:
    """A broker, a hub, a base, a listener; each test brings its agents and its job."""

    folder: Path
    broker: Mosquitto
    hub: HubProcess
    base: Path
    tap: Wiretap

    def submit(self, job: str, **changes: Any) -> None:
        self.hub.submit(job_text(job, self.base, **SHAPE | changes))

    def agent(self, device: str, **options: Any) -> AgentProcess:
        folder = self.folder / device
        data = write_data(folder / "private" / "my.jsonl", marker="text", examples=60)
        return AgentProcess(folder, self.broker.url, device, data, **options)

    def await_training(self, device: str, after: int = 0) -> None:
        """Wait until a device says, once more, that it is in the middle of training."""

        def trains() -> bool:
            told = self.tap.messages(Telemetry, device)[after:]
            return any(one.task is not None and one.task.stage == "train" for one in told)

        poll(f"{device} in training", trains, 150)

    def end(self, job: str) -> JobDetail:
        def ended() -> JobDetail | None:
            detail = self.hub.job(job)
            return detail if detail.summary.phase in ENDED else None

        detail: JobDetail = poll(f"the end of {job}", ended, 150)
        return detail


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faults")
    base = write_trainable_base(folder / "base")
    (folder / "broker").mkdir()
    (folder / "hub").mkdir()
    broker = Mosquitto(folder / "broker")
    broker.start()
    hub = HubProcess(folder / "hub", broker.url)
    try:
        hub.start()
        with Wiretap(broker.url) as tap:
            yield Site(folder, broker, hub, base, tap)
    finally:
        hub.kill9()
        broker.kill()


@pytest.fixture
def cancelled(site: Site) -> Iterator[Callable[[str], None]]:
    """Take names of jobs that must not go on after the test, with another test's agents."""
    with HubClient(site.hub.url) as client, ExitStack() as stack:

        def later(job: str) -> None:
            stack.callback(client.cancel, job)

        yield later


def test_a_worker_that_crashes_takes_neither_agent_nor_round_along(
    site: Site, cancelled: Callable[[str], None]
) -> None:
    """No want of memory, so nothing lower is tried; the deadline of two minutes is not waited for.

    What a worker does that ran out of memory is in `test_out_of_memory.py`.
    """
    site.submit("crash", rounds=2)
    cancelled("crash")
    fleet = Fleet(site.broker.url)
    other = fleet.add("other")  # the hub waits for its plan, and so has both in round 1
    try:
        with site.agent("victim") as agent:
            poll("the victim's plan", lambda: _plan(site, "victim", "crash"), 60)
            other.describe("crash")
            site.await_training("victim")
            plan = _plan(site, "victim", "crash")
            assert plan is not None
            began = time.monotonic()
            worker = agent.worker()
            pid = agent.pid
            worker.send_signal(signal.SIGSEGV)
            failed = site.tap.await_message(Result, "victim", status="failed")
            assert failed.task == "crash.1.victim"
            assert failed.reason is not None
            assert "-11" in failed.reason
            assert not site.tap.messages(DeviceEvent, "victim")

            fleet.work(other, other.await_offer(1))
            site.hub.await_event("crash", "Published", round=1)
            assert time.monotonic() - began < 100
            states = {one.device: one.state for one in site.hub.job("crash").rounds[0].members}
            assert states == {"victim": "failed", "other": "delivered"}
            assert (agent.running, agent.pid) == (True, pid)

            # The next round asks it again, for the same.
            site.hub.await_event("crash", "Taken", round=2, device="victim")
            member = {one.device: one for one in site.hub.job("crash").rounds[1].members}["victim"]
            assert (member.role, member.rung) == (plan.role, plan.rung)
            assert agent.worker().pid != worker.pid
            assert is_gone(worker)
    finally:
        fleet.leave(other)
        fleet.close()


def test_ctrl_c_ends_agent_and_worker_in_good_order(
    site: Site, cancelled: Callable[[str], None]
) -> None:
    site.submit("stop")
    cancelled("stop")
    with site.agent("stopped") as agent:
        site.await_training("stopped")
        worker = agent.worker()
        agent.interrupt()
        assert agent.wait(15) == 0
        assert is_gone(worker)
        assert "Traceback" not in agent.log
        assert (agent.state / "training.safetensors").is_file()  # where the next one would go on
    last = site.tap.await_message(DeviceState, "stopped", state="disconnected")
    assert site.tap.messages(DeviceState, "stopped")[-1] == last
    with Wiretap(site.broker.url, "late") as late:  # what it left behind is retained
        state = late.await_message(DeviceState, "stopped")
        assert state.state == "disconnected"
    with HubClient(site.hub.url) as client:
        poll("the hub's word", lambda: client.device("stopped").summary.state == "disconnected")


def test_an_agent_that_was_killed_comes_back_and_ends_its_job(site: Site) -> None:
    site.submit("again")
    with site.agent("reborn") as agent:
        site.await_training("reborn")
        worker = agent.worker()
        told = len(site.tap.messages(Telemetry, "reborn"))
        agent.kill9()
        poll("the end of the orphan", lambda: is_gone(worker))
        site.tap.await_message(DeviceState, "reborn", state="lost")
        agent.start()
        site.await_training("reborn", after=told)
        sessions = {one.session for one in site.tap.messages(Hello, "reborn")}
        assert len(sessions) == 2
        job = site.end("again")
    assert job.summary.phase == "done", (job.summary, site.hub.log[-3000:], agent.log)
    assert site.hub.accepted("again") == [(1, "reborn")]


def test_of_two_agents_with_one_id_the_first_stays(site: Site) -> None:
    site.submit("twins")
    with site.agent("twin") as first:
        site.await_training("twin")
        data = write_data(site.folder / "second" / "my.jsonl", marker="text")
        # Too little memory for a worker: it spares this test an import of torch.
        second = AgentProcess(
            site.folder / "second", site.broker.url, "twin", data, memory_bytes=100_000_000
        )
        with second:
            assert second.wait(60) == 1
        assert "twin" in second.log.splitlines()[-1]
        assert "Traceback" not in second.log
        refused = [one for one in _replies(site, "twin") if isinstance(one, Refused)]
        assert [one.final for one in refused] == [True]
        assert refused[0].reason in second.log

        job = site.end("twins")
        assert job.summary.phase == "done", (job.summary, site.hub.log[-3000:])
        assert site.hub.accepted("twins") == [(1, "twin")]
        sessions = {one.session for one in site.tap.messages(DeviceState, "twin")}
        assert len(sessions) == 1
        welcomed = [one for one in _replies(site, "twin") if isinstance(one, Welcome)]
        assert {one.session for one in welcomed} == sessions
        results = site.tap.messages(Result, "twin")
        assert {one.session for one in results} == sessions
        assert first.running
        assert os.waitpid(first.pid, os.WNOHANG) == (0, 0)


def _plan(site: Site, device: str, job: str) -> RungPlan | None:
    """Return a device's newest plan for a job."""
    plans = [info.plans[job] for info in site.tap.messages(DeviceInfo, device) if job in info.plans]
    return plans[-1] if plans else None


def _replies(site: Site, device: str) -> list[Refused | Welcome]:
    return [*site.tap.messages(Refused, device), *site.tap.messages(Welcome, device)]
