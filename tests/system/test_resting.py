"""A real agent on a device that is hot, or runs low: its task rests, and goes on where it stood."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.task_run import Settings
from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import DeviceEvent, DeviceState, Result, Telemetry

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STEPS = 400
SHAPE: dict[str, Any] = {
    "lora": {"rank": 4, "min_rank": 4},
    "local": {"steps": STEPS, "batch": 4, "min_batch": 4, "seq_len": 128, "min_seq_len": 128},
    "cohort": {"min": 1, "max": 9},
    "rounds": 1,
}


class Machine:
    """What the kernel tells of a device: its ``/proc`` and ``/sys``, written by a test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._write("sys/class/thermal/thermal_zone0/type", "cpu-thermal")
        self._write("sys/class/thermal/thermal_zone0/trip_point_0_type", "passive")
        self._write("sys/class/thermal/thermal_zone0/trip_point_0_temp", "85000")
        self._write("sys/class/power_supply/BAT0/type", "Battery")
        self._write("sys/class/power_supply/BAT0/status", "Discharging")
        self.heat(45)
        self.charge(70)

    def heat(self, temperature_c: int) -> None:
        self._write("sys/class/thermal/thermal_zone0/temp", str(temperature_c * 1000))

    def charge(self, percent: int) -> None:
        self._write("sys/class/power_supply/BAT0/capacity", str(percent))

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name("part")
        part.write_text(text + "\n")
        part.replace(path)


class AgentOnMachine(AgentProcess):
    """An agent that reads its conditions from another root, ten times a second."""

    def __init__(self, folder: Path, broker: str, device: str, machine: Machine) -> None:
        data = write_data(folder / "private" / "my.jsonl", marker="text")
        super().__init__(folder, broker, device, data)
        settings = Settings(
            broker=broker,
            fleet=FLEET,
            device=device,
            data=[str(data)],
            state_folder=str(self.state),
            system_root=str(machine.root),
            conditions_s=0.1,
        )
        words = msgspec.json.encode(settings).decode()
        self._command = [sys.executable, "-m", "edge_agent.run_command", words]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def tap(broker: Mosquitto) -> Iterator[Wiretap]:
    with Wiretap(broker.url) as listening:
        yield listening


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto, machine: Machine) -> Iterator[AgentOnMachine]:
    with AgentOnMachine(tmp_path / "ward", broker.url, "ward", machine) as started:
        yield started


def submit(hub: HubProcess, folder: Path, job: str) -> None:
    hub.submit(job_text(job, write_trainable_base(folder / "base"), **SHAPE))


def steps(tap: Wiretap, after: int = 0) -> list[int]:
    """Return the steps of training that were told of."""
    told = [one.task for one in tap.messages(Telemetry, "ward")[after:]]
    return [task.step for task in told if task is not None and task.stage == "train" and task.step]


def await_pause(tap: Wiretap, after: int = 0) -> Telemetry:
    def paused() -> Telemetry | None:
        for one in tap.messages(Telemetry, "ward")[after:]:
            if one.paused and one.task is not None and one.task.stage == "paused":
                return one
        return None

    found: Telemetry = poll("a task that rests", paused, 60)
    return found


def end(hub: HubProcess, job: str) -> JobDetail:
    def ended() -> JobDetail | None:
        detail = hub.job(job)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {job}", ended, 150)
    return detail


def test_a_hot_device_s_task_rests_and_goes_on_once_it_is_cool(
    tmp_path: Path, hub: HubProcess, tap: Wiretap, agent: AgentOnMachine, machine: Machine
) -> None:
    submit(hub, tmp_path, "heat")
    poll("training", lambda: steps(tap), 150)
    worker = agent.worker()
    machine.heat(81)  # its own limit is 85
    event = tap.await_message(DeviceEvent, "ward", type="throttled")
    assert (event.job, event.task) == ("heat", "heat.1.ward")
    assert "81 °C" in event.detail
    alert = tap.await_message(DeviceState, "ward", state="alert")
    assert alert.reason is not None
    assert "80 °C" in alert.reason
    paused = await_pause(tap)
    assert paused.temperature_c == 81.0
    assert paused.battery_percent == 70.0
    assert paused.task is not None
    assert 0 < paused.task.step < STEPS
    with HubClient(hub.url) as client:
        summary = poll(
            "the hub's word", lambda: (s := client.device("ward").summary).state == "alert" and s
        )
        assert summary.reason == alert.reason

    machine.heat(75)  # cooler, but not cool
    told = len(tap.messages(Telemetry, "ward"))
    hub.restart()  # whoever comes anew hears the same state, and no task is lost
    poll("a greeting", lambda: tap.messages(DeviceState, "ward")[-1].ts > alert.ts)
    assert tap.messages(DeviceState, "ward")[-1].state == "alert"
    assert steps(tap, after=told) == []
    assert agent.worker().pid == worker.pid

    machine.heat(60)
    poll("ready again", lambda: tap.messages(DeviceState, "ward")[-1].state == "ready", 60)
    job = end(hub, "heat")
    assert job.summary.phase == "done", (job.summary, hub.log[-3000:], agent.log)
    assert hub.accepted("heat") == [(1, "ward")]
    result = tap.await_message(Result, "ward")
    assert result.train is not None
    assert result.train.steps == STEPS
    assert min(steps(tap, after=told), default=STEPS) > paused.task.step - 1
    assert agent.worker().pid == worker.pid
    assert not (agent.state / "training.safetensors").exists()


def test_a_reboot_in_the_middle_of_a_rest_loses_no_step(
    tmp_path: Path, hub: HubProcess, tap: Wiretap, agent: AgentOnMachine, machine: Machine
) -> None:
    submit(hub, tmp_path, "power")
    poll("training", lambda: steps(tap), 150)
    machine.charge(19)
    event = tap.await_message(DeviceEvent, "ward", type="battery")
    assert "19 %" in event.detail
    tap.await_message(DeviceState, "ward", state="sleeping")
    paused = await_pause(tap)
    assert paused.task is not None
    assert (agent.state / "training.safetensors").is_file()

    os.kill(agent.pid, signal.SIGKILL)  # the battery is empty
    agent.wait(10)
    tap.await_message(DeviceState, "ward", state="lost")
    told = len(tap.messages(Telemetry, "ward"))
    machine.charge(60)
    agent.start()
    job = end(hub, "power")
    assert job.summary.phase == "done", (job.summary, hub.log[-3000:], agent.log)
    assert hub.accepted("power") == [(1, "ward")]
    # On a busy machine few steps may be left, of which nothing is told any more.
    assert min(steps(tap, after=told), default=STEPS) >= paused.task.step
    result = tap.await_message(Result, "ward")
    assert result.train is not None
    assert result.train.steps == STEPS
