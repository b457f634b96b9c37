"""A worker that is killed in the middle of its task: the task is done all the same, one line lower.

ARCHITECTURE.md, invariant 5. The kills are real: by signal, and by the kernel in the worker's own
control group.
"""

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_agent.probe.cgroups import levels
from hub.api.control import ENDED, JobDetail
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess, is_gone
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import DeviceEvent, DeviceInfo, DeviceState, Result, RungPlan, Telemetry

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SHAPE: dict[str, Any] = {
    "lora": {"rank": 4, "min_rank": 4},
    "local": {"steps": 150, "batch": 4, "min_batch": 2, "seq_len": 128, "min_seq_len": 128},
    "cohort": {"min": 1, "max": 9},
    "rounds": 2,
}
MEMORY_BYTES = 2_000_000_000


@pytest.fixture
def tap(broker: Mosquitto) -> Iterator[Wiretap]:
    with Wiretap(broker.url) as listening:
        yield listening


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto) -> Iterator[AgentProcess]:
    folder = tmp_path / "victim"
    data = write_data(folder / "private" / "my.jsonl", marker="text")
    with AgentProcess(folder, broker.url, "victim", data, memory_bytes=MEMORY_BYTES) as started:
        yield started


def submit(hub: HubProcess, folder: Path, job: str, **changes: Any) -> None:
    hub.submit(job_text(job, write_trainable_base(folder / "base"), **SHAPE | changes))


def await_training(tap: Wiretap) -> Telemetry:
    def trains() -> Telemetry | None:
        for one in tap.messages(Telemetry, "victim"):
            if one.task is not None and one.task.stage == "train" and one.task.step:
                return one
        return None

    found: Telemetry = poll("the victim in training", trains, 90)
    return found


def end(hub: HubProcess, job: str) -> JobDetail:
    def ended() -> JobDetail | None:
        detail = hub.job(job)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {job}", ended, 150)
    return detail


def plan_of(tap: Wiretap, job: str) -> RungPlan:
    plan: RungPlan = tap.messages(DeviceInfo, "victim")[-1].plans[job]
    return plan


def check(
    hub: HubProcess, tap: Wiretap, agent: AgentProcess, event: DeviceEvent, first: RungPlan
) -> None:
    """Whatever killed the worker: the round's task ended well, lower, and so do the next ones."""
    job = str(event.job)
    assert (event.round, event.task) == (1, f"{job}.1.victim")
    peak = event.peak
    assert peak is not None
    assert (peak.rung, peak.predicted_peak_bytes) == (first.rung, first.predicted_peak_bytes)
    assert peak.limit_bytes == MEMORY_BYTES
    assert 100_000_000 < peak.measured_peak_bytes < MEMORY_BYTES

    detail = end(hub, job)
    assert detail.summary.phase == "done", (detail.summary, hub.log[-3000:], agent.log)
    assert hub.accepted(job) == [(1, "victim"), (2, "victim")]
    results = {one.task: one for one in tap.messages(Result, "victim")}
    done = results[f"{job}.1.victim"]
    assert (done.status, done.reason) == ("done", None)
    assert done.predicted_peak_bytes < first.predicted_peak_bytes
    assert done.rung != first.rung  # the same work, held in another way
    assert done.train is not None
    assert done.train.steps == SHAPE["local"]["steps"]
    # What ran out is not planned again.
    assert plan_of(tap, job).predicted_peak_bytes < first.predicted_peak_bytes
    later = results[f"{job}.2.victim"]
    assert later.predicted_peak_bytes < first.predicted_peak_bytes


def test_a_worker_that_is_killed_ends_in_a_finished_task(
    tmp_path: Path, hub: HubProcess, tap: Wiretap, agent: AgentProcess
) -> None:
    submit(hub, tmp_path, "signal")
    await_training(tap)
    pid, worker, first = agent.pid, agent.worker(), plan_of(tap, "signal")
    worker.send_signal(signal.SIGKILL)
    event = tap.await_message(DeviceEvent, "victim", type="oom")
    assert event.job == "signal"
    check(hub, tap, agent, event, first)
    assert is_gone(worker)
    assert (agent.running, agent.pid) == (True, pid)
    assert {one.state for one in tap.messages(DeviceState, "victim")} == {"ready"}

    # Its predictions and what came of them are told, killed tasks left out.
    told = [one.peaks for one in tap.messages(Telemetry, "victim")][-1]
    assert [peak.task for peak in told] == ["signal.1.victim", "signal.2.victim"]
    for peak in told:
        assert peak.measured_peak_bytes > 100_000_000
        expected = peak.predicted_peak_bytes / peak.measured_peak_bytes - 1
        assert peak.error == pytest.approx(expected)


def group_of(worker: psutil.Process) -> Path | None:
    """Return the folder of a worker's own memory group."""
    for level in levels(Path("/"), "memory"):
        for folder in (Path("/") / level.folder).glob("lorikeet-victim-*"):
            if str(worker.pid) in (folder / "cgroup.procs").read_text().split():
                return folder
    return None


def squeeze(group: Path, worker: psutil.Process) -> None:
    """Lower a group's limit until the kernel kills who is in it."""
    limit = next(
        file for name in ("memory.max", "memory.limit_in_bytes") if (file := group / name).exists()
    )
    usage = "memory.current" if limit.name == "memory.max" else "memory.usage_in_bytes"

    def lowered() -> bool:
        held = int((group / usage).read_text())
        with suppress(OSError):  # version 1 refuses what it can't make room for at once
            limit.write_text(str(max(held - 4_000_000, 20_000_000)))
        return is_gone(worker)

    poll("the kernel's kill", lowered, 60)


@pytest.mark.root
def test_a_worker_that_the_kernel_kills_in_its_group_ends_in_a_finished_task(
    tmp_path: Path, hub: HubProcess, tap: Wiretap, agent: AgentProcess
) -> None:
    submit(hub, tmp_path, "group")
    await_training(tap)
    pid, worker, first = agent.pid, agent.worker(), plan_of(tap, "group")
    group = group_of(worker)
    if group is None:
        pytest.skip(f"no group could be made here: {agent.log}")
    enforcement = tap.messages(DeviceInfo, "victim")[-1].memory_enforcement
    assert enforcement in ("cgroup v1", "cgroup v2")
    assert f"kept by {enforcement}" in agent.log
    squeeze(group, worker)
    event = tap.await_message(DeviceEvent, "victim", type="oom")
    assert event.job == "group"
    check(hub, tap, agent, event, first)
    assert (agent.running, agent.pid) == (True, pid)
    agent.close()
    assert not group.exists()
