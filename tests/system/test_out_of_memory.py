"""A worker that is killed in the middle of its task: the task is done all the same, one line lower.

ARCHITECTURE.md, invariant 5. The kills are real: by signal, and by the kernel in the worker's own
control group.
"""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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
    "local": {"steps": 400, "batch": 4, "min_batch": 2, "seq_len": 128, "min_seq_len": 128},
    "cohort": {"min": 1, "max": 9},
    "rounds": 2,
}
MEMORY_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Site:
    """A hub, one agent, and a listener; each test brings its job."""

    hub: HubProcess
    agent: AgentProcess
    tap: Wiretap
    base: Path

    def train(self, job: str) -> RungPlan:
        """Submit a job, and wait until its task is in training; return the line it began on."""
        self.hub.submit(job_text(job, self.base, **SHAPE))

        def trains() -> bool:
            told = [one.task for one in self.tap.messages(Telemetry, "victim")]
            return any(
                one.step
                for one in told
                if one and one.task.startswith(job) and one.stage == "train"
            )

        poll("the victim in training", trains, 150)
        return self.plan(job)

    def plan(self, job: str) -> RungPlan:
        """Return the job's newest plan."""
        told = [info.plans[job] for info in self.infos if job in info.plans]
        return told[-1]

    @property
    def infos(self) -> list[DeviceInfo]:
        return self.tap.messages(DeviceInfo, "victim")

    def oom(self, job: str) -> DeviceEvent:
        return self.tap.await_message(DeviceEvent, "victim", type="oom", job=job)

    def end(self, job: str) -> JobDetail:
        def ended() -> JobDetail | None:
            detail = self.hub.job(job)
            return detail if detail.summary.phase in ENDED else None

        detail: JobDetail = poll(f"the end of {job}", ended, 150)
        return detail


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("oom")
    (folder / "broker").mkdir()
    (folder / "hub").mkdir()
    broker = Mosquitto(folder / "broker")
    broker.start()
    hub = HubProcess(folder / "hub", broker.url)
    data = write_data(folder / "victim" / "private" / "my.jsonl", marker="text")
    agent = AgentProcess(folder / "victim", broker.url, "victim", data, memory_bytes=MEMORY_BYTES)
    try:
        hub.start()
        with Wiretap(broker.url) as tap, agent:
            yield Site(hub, agent, tap, write_trainable_base(folder / "base"))
            agent.close()
            assert groups(f"lorikeet-victim-{agent.pid}*") == []
    finally:
        hub.kill9()
        broker.kill()


def groups(pattern: str) -> list[Path]:
    """Return the folders of control groups below ours, and above, by their names."""
    folders = [Path("/") / level.folder for level in levels(Path("/"), "memory")]
    return [found for folder in folders for found in folder.glob(pattern)]


def check(site: Site, event: DeviceEvent, first: RungPlan) -> None:
    """Whatever killed the worker: the round's task ended well, lower, and so do the next ones."""
    job = str(event.job)
    assert (event.round, event.task) == (1, f"{job}.1.victim")
    peak = event.peak
    assert peak is not None
    assert (peak.rung, peak.predicted_peak_bytes) == (first.rung, first.predicted_peak_bytes)
    assert peak.limit_bytes == MEMORY_BYTES
    assert 100_000_000 < peak.measured_peak_bytes < MEMORY_BYTES

    detail = site.end(job)
    assert detail.summary.phase == "done", (detail.summary, site.hub.log[-3000:], site.agent.log)
    assert site.hub.accepted(job) == [(1, "victim"), (2, "victim")]
    results = {one.task: one for one in site.tap.messages(Result, "victim")}
    done, later = results[f"{job}.1.victim"], results[f"{job}.2.victim"]
    assert (done.status, done.reason) == ("done", None)
    assert done.predicted_peak_bytes < first.predicted_peak_bytes
    assert done.rung != first.rung  # the same work, held in another way
    assert done.train is not None
    assert done.train.steps == SHAPE["local"]["steps"]
    # What ran out is not planned again.
    assert site.plan(job).predicted_peak_bytes < first.predicted_peak_bytes
    assert later.rung == site.plan(job).rung != first.rung
    assert {one.state for one in site.tap.messages(DeviceState, "victim")} == {"ready"}


def test_a_worker_that_is_killed_ends_in_a_finished_task(site: Site) -> None:
    first = site.train("signal")
    pid, worker = site.agent.pid, site.agent.worker()
    worker.send_signal(signal.SIGKILL)
    check(site, site.oom("signal"), first)
    assert is_gone(worker)
    assert (site.agent.running, site.agent.pid) == (True, pid)

    # Its predictions and what came of them are told, those of killed tasks left out.
    told = {peak.task: peak for one in site.tap.messages(Telemetry, "victim") for peak in one.peaks}
    for task in ("signal.1.victim", "signal.2.victim"):
        peak = told[task]
        assert peak.rung != first.rung
        assert 100_000_000 < peak.measured_peak_bytes < MEMORY_BYTES
        error = peak.predicted_peak_bytes / peak.measured_peak_bytes - 1
        assert peak.error == pytest.approx(error, abs=5e-5)  # four digits are told


def squeeze(group: Path, worker: psutil.Process) -> None:
    """Lower a group's limit to what it holds, so that the kernel kills at the next step's needs."""
    limit = next(
        file for name in ("memory.max", "memory.limit_in_bytes") if (file := group / name).exists()
    )
    held = "anon" if limit.name == "memory.max" else "rss"  # what can't be reclaimed

    def lowered() -> bool:
        if is_gone(worker):  # the next one is not to be squeezed as well
            return True
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        with suppress(OSError):  # version 1 refuses what it can't make room for at once
            limit.write_text(str(int(stat[held]) + 1_000_000))
        return False

    poll("the kernel's kill", lowered, 60)


@pytest.mark.root
def test_a_worker_that_the_kernel_kills_in_its_group_ends_in_a_finished_task(site: Site) -> None:
    first = site.train("group")
    pid, worker = site.agent.pid, site.agent.worker()
    found = groups(f"lorikeet-victim-{pid}")
    if not found:
        pytest.skip(f"no group could be made here: {site.agent.log}")
    enforcement = site.infos[-1].memory_enforcement
    assert enforcement in ("cgroup v1", "cgroup v2")
    assert f"kept by {enforcement}" in site.agent.log
    assert (found[0] / "cgroup.procs").read_text().split() == [str(worker.pid)]
    squeeze(found[0], worker)
    check(site, site.oom("group"), first)
    assert (site.agent.running, site.agent.pid) == (True, pid)
    # The next worker was put into the same group, and no watchdog had to step in.
    assert (found[0] / "cgroup.procs").read_text().split() == [str(site.agent.worker().pid)]
