"""The supervisor's watch over the device: when it looks, what it says, and what the task does."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.agent import Supervisor
from edge_agent.pausing import BAD_READINGS, GOOD_READINGS, Comfort
from edge_agent.task_run import Settings, TaskRun
from tests.edge_agent.test_tasks import OFFER, PLAN

ZONE = "sys/class/thermal/thermal_zone0"
BATTERY = "sys/class/power_supply/BAT0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name, text in {
        f"{ZONE}/type": "cpu-thermal",
        f"{ZONE}/temp": "45000",
        f"{BATTERY}/type": "Battery",
        f"{BATTERY}/status": "Discharging",
        f"{BATTERY}/capacity": "50",
        "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 50000 kB",
        "proc/pressure/memory": pressure(0),
    }.items():
        write(folder, name, text)
    return folder


def pressure(full: float) -> str:
    some = f"some avg10={full} avg60=0 avg300=0 total=0"
    return f"{some}\n{some.replace('some', 'full')}"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def agent(tmp_path: Path, root: Path) -> Iterator[Supervisor]:
    data = tmp_path / "my.txt"
    data.write_text("one two three. " * 100)
    settings = Settings(
        broker="mqtt://127.0.0.1:9",
        fleet="test",
        device="ward",
        data=[str(data)],
        state_folder=str(tmp_path / "state"),
        conditions_s=0.0,
        comfort=Comfort(min_battery_percent=30.0),
        system_root=str(root),
    )
    made = Supervisor(settings)
    yield made
    made.worker.close()


@pytest.fixture
def task(agent: Supervisor) -> TaskRun:
    """Return a task that waits for its base."""
    run = TaskRun(OFFER, PLAN, time.monotonic())
    agent.tasks.current = run
    return run


def look(agent: Supervisor, times: int) -> str | None:
    for _ in range(times):
        agent.resting.tick(time.monotonic())
    trouble = agent.resting.trouble
    return trouble.kind if trouble else None


def test_a_worker_that_waits_for_work_gives_way_where_memory_is_short(
    agent: Supervisor, root: Path
) -> None:
    agent.worker._started()
    write(root, f"{ZONE}/temp", "95000")
    assert look(agent, BAD_READINGS) == "throttled"
    assert agent.worker.pid is not None
    write(root, f"{ZONE}/temp", "45000")
    write(root, "proc/pressure/memory", pressure(30.0))
    assert look(agent, 1) == "pressure"
    assert agent.worker.pid is None


def test_nobody_looks_while_there_is_neither_task_nor_worker(agent: Supervisor, root: Path) -> None:
    write(root, f"{BATTERY}/capacity", "3")
    assert look(agent, BAD_READINGS + 1) is None
    assert agent.resting.state == ("ready", None)


@pytest.mark.parametrize(
    ("readings", "says"),
    [
        ((f"{ZONE}/temp", "80000", "70000"), ("throttled", "alert")),
        ((f"{BATTERY}/capacity", "29", "35"), ("battery", "sleeping")),
        (("proc/pressure/memory", pressure(30.0), pressure(1.0)), ("pressure", "alert")),
    ],
)
def test_a_trouble_has_its_state_and_its_end(
    agent: Supervisor,
    task: TaskRun,
    root: Path,
    readings: tuple[str, str, str],
    says: tuple[str, str],
) -> None:
    name, bad, good = readings
    kind, state = says
    assert look(agent, BAD_READINGS) is None
    write(root, name, bad)
    assert look(agent, BAD_READINGS - 1) is None
    assert look(agent, 1) == kind
    found, reason = agent.resting.state
    assert found == state
    assert reason

    agent.tasks.current = None  # cancelled meanwhile: the state has an end all the same
    write(root, "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 500000 kB")
    write(root, name, good)
    assert look(agent, GOOD_READINGS - 1) == kind
    assert look(agent, 1) is None
    assert agent.resting.state == ("ready", None)


def test_what_the_task_will_need_must_be_free_before_it_goes_on(
    agent: Supervisor, task: TaskRun, root: Path
) -> None:
    write(root, "proc/pressure/memory", pressure(30.0))
    assert look(agent, BAD_READINGS) == "pressure"
    write(root, "proc/pressure/memory", pressure(0.0))
    needed_bytes = agent.resident_bytes() + 300_000_000
    task.line = msgspec.structs.replace(PLAN, predicted_peak_bytes=needed_bytes)
    for available_kb, expected in ((350_000, "pressure"), (450_000, None)):
        write(root, "proc/meminfo", f"MemTotal: 1000000 kB\nMemAvailable: {available_kb} kB")
        assert look(agent, GOOD_READINGS) == expected


def test_a_device_without_any_sensor_works(agent: Supervisor, task: TaskRun, root: Path) -> None:
    for name in (f"{ZONE}/temp", f"{BATTERY}/capacity", "proc/meminfo", "proc/pressure/memory"):
        (root / name).unlink()
    assert look(agent, BAD_READINGS + 1) is None
    fares = agent.resting.conditions()
    assert (fares.temperature_c, fares.battery_percent, fares.memory_full_avg10) == (None,) * 3
