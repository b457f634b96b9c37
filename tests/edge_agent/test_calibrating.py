"""How the supervisor comes to know its device. No broker is there, and none is needed.

The workers are real processes. They end before they have measured anything, or have a library in
their path that fails as a broken installation does.
"""

import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.agent import Supervisor
from edge_agent.calibrating import what_fits, worth_repeating
from edge_agent.calibration import (
    Calibration,
    Measured,
    load_calibration,
    present_key,
    save_calibration,
)
from edge_agent.probe.memory import MemoryLimit
from edge_agent.protocol import Calibrate, Failed
from edge_agent.task_run import Settings
from edge_agent.worker_process import WorkerDied, WorkerEvent
from tests.edge_agent.test_setbacks import ANNOUNCE

MB = 1_000_000
LEAN = Measured(lean_bytes=200 * MB)
WIDE = msgspec.structs.replace(LEAN, wide=True)
FULL = msgspec.structs.replace(WIDE, full_bytes=330 * MB)
TIMEOUT_S = 60


@pytest.mark.parametrize(
    ("limit_mb", "wide", "full"),
    [(0, False, False), (399, False, False), (400, True, False), (519, True, False),
     (520, True, True), (64_000, True, True)],
)  # fmt: skip
def test_what_there_is_room_for_is_measured(limit_mb: int, wide: bool, full: bool) -> None:
    assert what_fits(limit_mb * MB) == Calibrate(wide=wide, full=full)


@pytest.mark.parametrize(
    ("measured", "limit_mb", "again"),
    [
        (None, 189, False), (None, 190, True), (None, 4000, True),
        (LEAN, 100, False), (LEAN, 399, False), (LEAN, 400, True), (LEAN, 520, True),
        (WIDE, 400, False), (WIDE, 519, False), (WIDE, 520, True),
        (FULL, 100, False), (FULL, 400, False), (FULL, 64_000, False),
    ],
)  # fmt: skip
def test_only_room_for_a_part_that_was_left_out_is_worth_another_one(
    measured: Measured | None, limit_mb: int, again: bool
) -> None:
    assert worth_repeating(Calibration(measured=measured), limit_mb * MB) is again


Make = Callable[[int], Supervisor]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "state"


@pytest.fixture
def make(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that makes the agent of a device with so many megabytes."""
    data = tmp_path / "my.txt"
    data.write_text("one two three. " * 100)
    made: list[Supervisor] = []

    def of(limit_mb: int) -> Supervisor:
        limit = MemoryLimit(limit_mb * MB, "memory that is available")
        monkeypatch.setattr("edge_agent.agent.memory_limit", lambda _: limit)
        settings = Settings(
            broker="mqtt://127.0.0.1:9",
            fleet="test",
            device="ward",
            data=[str(data)],
            state_folder=str(state),
            threads=1,
        )
        made.append(Supervisor(settings))
        return made[-1]

    yield of
    for agent in made:
        agent.worker.close()


def keep(state: Path, measured: Measured) -> None:
    save_calibration(state, 1, Calibration(key=present_key(1), measured=measured))


def happen(agent: Supervisor, kind: type[WorkerEvent | WorkerDied]) -> WorkerEvent | WorkerDied:
    """Let the agent take what its worker says next, which is of this kind."""
    try:
        event = agent.inbox.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise AssertionError("the worker says nothing") from None
    assert isinstance(event, kind), event
    agent._on_event(event)
    return event


def test_what_was_kept_is_planned_with_at_once(make: Make, state: Path) -> None:
    keep(state, FULL)
    agent = make(4000)
    assert agent.calibrating.known == Calibration(key=present_key(1), measured=FULL)
    agent.welcomed = True
    agent._on_announce(ANNOUNCE)
    assert agent.worker.pid is None
    assert agent.jobs.plans["notes"].role == "lora"


def test_a_device_on_which_no_worker_starts_plans_with_what_is_known_of_others(make: Make) -> None:
    agent = make(189)
    assert agent.calibrating.known == Calibration()
    agent.welcomed = True
    agent._on_announce(ANNOUNCE)
    assert agent.worker.pid is None
    # The worker alone takes 190 MB, and the supervisor 32.
    assert agent.jobs.plans["notes"].role == "none"
    assert agent.jobs.plans["notes"].missing_bytes > (190 + 32 - 189) * MB


def test_it_is_measured_once_there_is_a_job_and_the_session_is_taken(make: Make) -> None:
    agent = make(450)
    agent.calibrating.begin()
    agent.welcomed = True
    agent.calibrating.begin()
    assert agent.worker.pid is None  # a worker for nothing would cost a battery
    agent.welcomed = False
    agent._on_announce(ANNOUNCE)
    assert agent.worker.pid is None  # another session with this name may be at work
    agent.welcomed = True
    agent.calibrating.begin()
    worker = agent.worker.pid
    assert worker is not None
    assert agent.worker.calibrating == Calibrate(wide=True, full=False)
    agent.calibrating.begin()
    assert agent.worker.pid == worker
    assert agent.jobs.plans == {}  # nothing is promised yet


@pytest.mark.parametrize(("known", "begins"), [(LEAN, True), (FULL, False)])
def test_more_room_than_before_has_it_measured_again(
    make: Make, state: Path, known: Measured, begins: bool
) -> None:
    keep(state, known)
    agent = make(4000)
    assert (agent.calibrating.known is None) is begins


def test_what_was_measured_is_kept_and_planned_with_and_the_worker_ends(
    make: Make, state: Path
) -> None:
    agent = make(4000)
    agent.welcomed = True
    agent._on_announce(ANNOUNCE)
    assert agent.worker.calibrating == Calibrate(wide=True, full=True)
    agent.calibrating.on_measured(FULL)
    assert agent.worker.pid is None
    assert agent.worker.calibrating is None
    assert load_calibration(state, 1) == Calibration(key=present_key(1), measured=FULL)
    assert agent.jobs.plans["notes"].role == "lora"
    agent.calibrating.begin()
    assert agent.worker.pid is None


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts code in torch's place."""

    def put(code: str) -> None:
        (tmp_path / "spoilt").mkdir()
        (tmp_path / "spoilt" / "torch.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spoilt"))

    return put


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("raise MemoryError", WorkerEvent),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", WorkerDied),
    ],
)
def test_a_worker_that_runs_out_of_memory_measures_less_and_then_nothing_fits(
    make: Make,
    state: Path,
    spoil: Callable[[str], None],
    code: str,
    kind: type[WorkerEvent | WorkerDied],
) -> None:
    spoil(code)
    agent = make(4000)
    agent.welcomed = True
    agent._on_announce(ANNOUNCE)
    first = agent.worker.pid
    happen(agent, kind)
    assert agent.worker.calibrating == Calibrate(wide=False, full=False)
    second = agent.worker.pid
    assert second not in (None, first)
    assert agent.calibrating.known is None
    while agent.calibrating.known is None:
        event = agent.inbox.get(timeout=TIMEOUT_S)  # the first one's end may be among them
        agent._on_event(event)
    assert agent.calibrating.known == Calibration(measured=Measured(lean_bytes=4000 * MB))
    assert agent.worker.pid is None
    assert agent.jobs.plans["notes"].role == "none"
    assert load_calibration(state, 1) is None  # the next start may find more memory


def test_a_worker_that_can_t_measure_is_asked_again_with_the_next_announcement(
    make: Make, spoil: Callable[[str], None]
) -> None:
    spoil("raise ImportError")
    agent = make(4000)
    agent.welcomed = True
    agent._on_announce(ANNOUNCE)
    event = happen(agent, WorkerEvent)
    assert isinstance(event, WorkerEvent)
    assert isinstance(event.event, Failed)
    assert (agent.calibrating.known, agent.worker.calibrating) == (None, None)
    agent._on_announce(ANNOUNCE)
    assert agent.worker.calibrating == Calibrate(wide=True, full=True)
    happen(agent, WorkerEvent)
    assert agent.worker.calibrating is None
