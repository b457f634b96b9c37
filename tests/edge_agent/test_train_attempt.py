"""One local task in a real worker: held to its memory, followed to its end."""

import io
from pathlib import Path

import pytest

from edge_agent.errors import DataError
from edge_agent.limits.enforcement import Enforcement
from edge_agent.protocol import TrainLocal
from edge_agent.train_attempt import Attempt, StoppedError, WorkerMemoryError, in_options
from edge_agent.train_view import Lines
from wire.messages import LocalWork


@pytest.fixture
def command(tmp_path: Path) -> TrainLocal:
    """Return a task whose data isn't there: a worker that gets as far says so."""
    return TrainLocal(
        task="train",
        role="lora",
        rung="streamed",
        rank=2,
        model=str(tmp_path / "base"),
        data=[str(tmp_path / "absent.jsonl")],
        out=str(tmp_path / "adapter"),
        work=LocalWork(steps=1, batch=1, seq_len=8, optimizer="adamw", lr=1e-3, seed=0),
        checkpoint=str(tmp_path / "checkpoint.safetensors"),
    )


def attempt(command: TrainLocal, folder: Path, limit_bytes: int, stops: int = 0) -> Attempt:
    return Attempt(
        command,
        threads=1,
        limit_bytes=limit_bytes,
        enforcement=Enforcement("test", hard=False),
        log_file=folder / "worker.log",
        view=Lines(io.StringIO()),
        stops_asked=lambda: stops,
    )


def test_without_a_control_group_a_worker_that_takes_too_much_is_ended(
    command: TrainLocal, tmp_path: Path
) -> None:
    # torch alone takes more.
    tried = attempt(command, tmp_path, 100_000_000)
    with pytest.raises(WorkerMemoryError, match="bytes were used of 100000000") as caught:
        tried.run()
    assert caught.value.used_bytes > 100_000_000
    assert tried.peak_bytes > tried.worker_peak_bytes > 0


def test_what_is_wrong_with_the_data_is_an_error_of_the_data(
    command: TrainLocal, tmp_path: Path
) -> None:
    tried = attempt(command, tmp_path, 2_000_000_000)
    with pytest.raises(DataError, match="data path 1 does not exist"):
        tried.run()
    assert tried.peak_bytes > tried.worker_peak_bytes > 50_000_000


def test_a_stop_before_the_first_step_is_heeded_at_once(
    command: TrainLocal, tmp_path: Path
) -> None:
    tried = attempt(command, tmp_path, 2_000_000_000, stops=1)
    with pytest.raises(StoppedError):
        tried.run()


def test_a_job_files_keys_are_told_as_options() -> None:
    said = in_options("the loss of step 3 is nan. Lower local.lr, or raise local.seq_len.")
    assert said == "the loss of step 3 is nan. Lower --lr, or raise --seq-len."
