"""What the worker is told of a task: the job's words on the line that the device is on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge_agent.gather import Gathered
from edge_agent.task_run import TaskRun
from edge_agent.task_work import work_of
from wire.messages import AdapterRef, LocalWork, Offer, RungPlan
from wire.work import Cleaning

CLEANING = Cleaning(redact=True, min_letters=3)


def told(tmp_path: Path, **changes: Any) -> Any:
    """Return the command for an offer of 8 x 256 tokens, on a line of 6 x 128."""
    work = LocalWork(
        steps=5, batch=8, seq_len=256, optimizer="sgd", lr=0.1, seed=7, momentum=0.9, **changes
    )
    offer = Offer(
        session="s", task="t", job="j", round=1, kind="train", role="lora", rung="streamed",
        rank=4, adapter=AdapterRef(sha256="a" * 64, size_bytes=1), base="b", http="h", codec="raw",
        work=work, variants=["adapter"], deadline_s=60.0,
    )  # fmt: skip
    line = RungPlan(
        role="lora", rung="streamed", rank=4, batch=6, seq_len=128, predicted_peak_bytes=1,
        fits=True,
    )  # fmt: skip
    agent: Any = SimpleNamespace(
        folder=tmp_path,
        blobs=SimpleNamespace(path=lambda sha256: tmp_path / sha256, folder=tmp_path),
        settings=SimpleNamespace(data=["my.jsonl"], cleaning=CLEANING),
    )
    return work_of(agent, TaskRun(offer, line, 0.0), tmp_path, Gathered({}, [], 0))


def test_the_line_sets_the_sizes_and_the_job_the_rest(tmp_path: Path) -> None:
    work = told(tmp_path)
    assert (work.work.batch, work.work.seq_len, work.work.steps) == (6, 128, 5)
    assert (work.work.optimizer, work.work.momentum, work.batch) == ("sgd", 0.9, 6)


def test_an_evaluation_takes_no_more_rows_than_a_part_of_a_step(tmp_path: Path) -> None:
    assert told(tmp_path, accumulate=4).batch == 2  # 6 in 4 parts: 2, 2 and 2


def test_the_worker_cleans_as_the_agent_was_told_to(tmp_path: Path) -> None:
    assert told(tmp_path).cleaning == CLEANING
