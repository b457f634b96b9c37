"""What happens to a task that runs out of memory, or must rest: the supervisor's own steps.

No broker is there, and none is needed: what would be published is dropped. The workers are real
processes that have imported nothing yet.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.agent import Supervisor
from edge_agent.calibration import Calibration, Measured
from edge_agent.pausing import Trouble
from edge_agent.protocol import Failed, Paused
from edge_agent.setbacks import MAX_WORKER_DEATHS, PRESSURE_PATIENCE_S
from edge_agent.task_run import Settings, TaskRun
from tests.edge_agent.test_tasks import OFFER
from wire.messages import (
    AdapterRef,
    BaseRef,
    HubState,
    JobKnobs,
    ModelShape,
    RoundAnnounce,
    RungPlan,
)

SHAPE = ModelShape(
    model_type="llama", hidden_size=128, layers=4, mlp_size=344, heads=4, kv_heads=4, head_dim=32,
    vocab_size=260, tied_embeddings=False, parameters=860_000, weight_bytes=4,
)  # fmt: skip
KNOBS = JobKnobs(
    method="lora", rank=16, min_rank=16, batch=16, min_batch=8, seq_len=256, min_seq_len=256
)
ANNOUNCE = RoundAnnounce(
    job="notes",
    round=0,
    rounds=5,
    phase="open",
    ts=0,
    knobs=KNOBS,
    base=BaseRef(name="toy", digest="0" * 64, size_bytes=3_000_000, shape=SHAPE),
    adapter=AdapterRef(sha256="1" * 64, size_bytes=900),
)
PRESSURE = Trouble("pressure", "everything waits for memory")
HEAT = Trouble("throttled", "it is hot")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Supervisor]:
    data = tmp_path / "my.txt"
    data.write_text("one two three. " * 100)
    settings = Settings(
        broker="mqtt://127.0.0.1:9",
        fleet="test",
        device="ward",
        data=[str(data)],
        state_folder=str(tmp_path / "state"),
    )
    made = Supervisor(settings)
    made.jobs.learn(ANNOUNCE)
    made.calibrating.known = Calibration(measured=Measured(lean_bytes=250_000_000))
    made.replan()
    yield made
    made.worker.close()


@pytest.fixture
def task(agent: Supervisor) -> TaskRun:
    """Return a running task of the job's best line, in the hands of a worker."""
    plan = agent.jobs.plans["notes"]
    work = msgspec.structs.replace(OFFER.work, batch=plan.batch, seq_len=plan.seq_len)
    offer = msgspec.structs.replace(
        OFFER, job="notes", task="notes.1.ward", role=plan.role, rung=plan.rung, rank=plan.rank,
        work=work,
    )  # fmt: skip
    run = TaskRun(offer, plan, time.monotonic())
    agent.tasks.current = run
    agent.worker._started()
    run.working = True
    return run


def in_trouble(agent: Supervisor, trouble: Trouble | None) -> None:
    agent.resting._watch.trouble = trouble


def test_a_task_that_ran_out_is_taken_again_with_the_same_name_and_less(
    agent: Supervisor, task: TaskRun
) -> None:
    lines: list[RungPlan] = []
    while task.failure is None and len(lines) < 100:
        lines.append(task.line)
        task.working = True
        agent.setbacks.out_of_memory("the worker was killed (code -9)")
    assert len(lines) > 1
    peaks = [line.predicted_peak_bytes for line in lines]
    assert peaks == sorted(set(peaks), reverse=True)
    assert {(line.role, line.rank) for line in lines} == {(task.offer.role, task.offer.rank)}
    # At last nothing is left, and the hub is told all about it.
    assert task.reported
    assert task.failure is not None
    assert "nothing below serves it" in task.failure
    assert "code -9" in task.failure
    plan = agent.jobs.plans["notes"]
    assert plan.predicted_peak_bytes < peaks[-1]


def test_a_worker_that_dies_before_it_has_the_task_is_no_rung_s_fault(
    agent: Supervisor, task: TaskRun
) -> None:
    task.working = False
    line = task.line
    for _ in range(MAX_WORKER_DEATHS - 1):
        agent.setbacks.out_of_memory("the worker was killed (code -9)")
        assert task.failure is None
        assert task.stage == "base"  # fetched once more
    agent.setbacks.out_of_memory("the worker was killed (code -9)")
    assert task.failure == "the worker was killed (code -9)"
    assert task.line == line
    assert agent.jobs.plans["notes"] == line


KINDS = ["gguf-q8_0", "gguf-q4_0"]


def plan_with_engine(agent: Supervisor) -> RungPlan:
    """Return the plan of a device that reads GGUF alone."""
    knobs = msgspec.structs.replace(KNOBS, forward=2, forward_batch=4)
    base = msgspec.structs.replace(ANNOUNCE.base, derived=KINDS)
    agent.jobs.learn(msgspec.structs.replace(ANNOUNCE, knobs=knobs, base=base))
    measured = Measured(lean_bytes=60_000_000)
    agent.calibrating.known = Calibration(measured=measured, runtime="llama.cpp")
    agent.replan()
    return agent.jobs.plans["notes"]


def told_not_made(agent: Supervisor, kind: str) -> None:
    """What the worker says when the hub can't make what it was asked for."""
    fetching = agent.worker.fetching
    assert fetching is not None
    assert fetching.derived == kind
    agent.worker_events.on_event(
        Failed(task="", kind="derived", message=f"the hub has no {kind} of this base: strange")
    )


def test_a_file_that_the_hub_can_not_make_is_done_without(agent: Supervisor) -> None:
    plan = plan_with_engine(agent)
    assert (plan.rung, plan.derived) == ("forward-only", "gguf-q8_0")
    work = msgspec.structs.replace(OFFER.work, batch=plan.batch, seq_len=plan.seq_len)
    offer = msgspec.structs.replace(
        OFFER, job="notes", task="notes.1.ward", role=plan.role, rung=plan.rung, rank=plan.rank,
        work=work,
    )  # fmt: skip
    task = agent.tasks.current = TaskRun(offer, plan, time.monotonic())
    agent.tasks.advance()
    told_not_made(agent, "gguf-q8_0")
    # The same task goes on with the other file, and every later one begins there.
    assert (task.failure, task.line.rung, task.line.derived) == (None, "forward-only", "gguf-q4_0")
    assert agent.jobs.plans["notes"].derived == "gguf-q4_0"
    told_not_made(agent, "gguf-q4_0")
    # Without any, the plan says so, and why; no task is offered to such a device.
    assert task.failure == "the hub has no gguf-q4_0 of this base: strange"
    none = agent.jobs.plans["notes"]
    assert none.role == "none"
    for kind in KINDS:
        assert f"the hub has no {kind} of this base: strange" in none.reason


def test_another_hub_may_make_what_the_one_before_could_not(agent: Supervisor) -> None:
    plan = plan_with_engine(agent)
    agent._on_hub(HubState(online=True, ts=0, epoch="one"))
    for kind in KINDS:
        agent.jobs.leave_out("0" * 64, kind, "the hub has none. " * 100)
    agent.replan()
    none = agent.jobs.plans["notes"]
    assert (none.role, len(none.reason)) == ("none", 1000)  # as many as its message takes
    agent._on_hub(HubState(online=True, ts=1, epoch="one"))
    assert agent.jobs.plans["notes"] == none
    agent._on_hub(HubState(online=True, ts=2, epoch="two"))
    assert agent.jobs.plans["notes"] == plan


def test_a_death_without_a_task_is_told_and_nothing_else(agent: Supervisor) -> None:
    before = dict(agent.jobs.plans)
    agent.setbacks.out_of_memory("the worker was killed (code -9)")
    assert agent.jobs.plans == before


def test_a_task_is_asked_once_to_rest_and_waits_for_the_end_of_its_step(
    agent: Supervisor, task: TaskRun
) -> None:
    in_trouble(agent, HEAT)
    worker = agent.worker.pid
    agent.setbacks.ask_to_rest()
    asked = task.pause_asked_at
    assert asked is not None
    agent.setbacks.ask_to_rest()
    assert task.pause_asked_at == asked
    agent.setbacks.tick(asked + 10_000)  # heat is no hurry
    assert task.working
    agent.tasks.on_worker(Paused(task=task.offer.task, step=3))
    assert (task.working, task.stage, task.failure) == (False, "base", None)
    assert agent.worker.pid == worker


def test_a_device_that_is_short_of_memory_gets_the_worker_s_back(
    agent: Supervisor, task: TaskRun
) -> None:
    in_trouble(agent, PRESSURE)
    worker = agent.worker.pid
    agent.setbacks.ask_to_rest()
    asked = task.pause_asked_at
    assert asked is not None
    agent.setbacks.tick(asked + PRESSURE_PATIENCE_S - 1)
    assert (task.working, agent.worker.pid) == (True, worker)
    agent.setbacks.tick(asked + PRESSURE_PATIENCE_S + 1)  # it never came to a step's end
    assert not task.working
    assert agent.worker.pid != worker
    assert task.failure is None


def test_a_deadline_that_passes_in_a_rest_is_told_with_its_reason(
    agent: Supervisor, task: TaskRun
) -> None:
    in_trouble(agent, HEAT)
    task.working = False
    agent.tasks.tick(task.ends_at - 1)
    assert task.failure is None
    agent.tasks.tick(task.ends_at + 1)
    assert task.failure == "not done within 60 s; it rests: it is hot"


def test_what_was_worked_on_is_kept_for_a_restart_and_dropped_at_the_end(
    agent: Supervisor, task: TaskRun
) -> None:
    state = agent.folder / "training.safetensors"
    state.write_bytes(b"a state")
    agent.setbacks.out_of_memory("the worker was killed (code -9)")
    assert state.exists()
    agent.tasks._end_task()
    assert not state.exists()


def test_a_worker_of_the_resident_rungs_makes_room_for_a_lean_one(
    agent: Supervisor, task: TaskRun
) -> None:
    """Transformers and PEFT weigh 120 MB, which a streamed rung's prediction leaves out."""
    host = agent.worker
    tight_bytes = agent.limit.limit_bytes - 100_000_000

    def kept(rung: str, peak_bytes: int, *, full: bool = True) -> bool:
        before = host._started().pid
        host._full = full
        host.make_room(
            msgspec.structs.replace(task.line, rung=rung, predicted_peak_bytes=peak_bytes)
        )
        return host.pid == before

    assert kept("streamed", 1_000_000)  # there is room for both
    assert kept("checkpointed", tight_bytes)  # it needs them
    assert kept("streamed", tight_bytes, full=False)
    assert not kept("streamed", tight_bytes)
