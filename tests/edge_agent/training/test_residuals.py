"""Residuals survive what happens to agents, hubs and disks, and count once."""

import logging
from pathlib import Path

import numpy as np
import pytest

from edge_agent.training import residuals as module
from edge_agent.training.residuals import MOST_JOBS, Facts, Residuals

SHAPES = {"a.left": (2, 3), "prompt": (4,)}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return the folder of a job among others."""
    return tmp_path / "residuals" / "job"


def put(folder: Path, task: str, value: float = 1.0, round_: int = 1) -> None:
    tensors = [np.full(shape, value, np.float32) for shape in SHAPES.values()]
    Residuals(folder).put(Facts(task, round_), SHAPES, tensors)


def begin(folder: Path, accepted: str) -> float | None:
    """Return the value that a residual is full of."""
    found = Residuals(folder).begin(accepted)
    if found is None:
        return None
    assert found.shapes == SHAPES
    values = {found.get(name).flat[0] for name in SHAPES}
    return float(values.pop())


def test_there_is_nothing_at_first(job: Path) -> None:
    assert begin(job, "") is None
    assert begin(job, "j.1.d") is None


def test_what_an_accepted_task_left_out_is_kept(job: Path) -> None:
    put(job, "j.1.d", 1.5)
    assert begin(job, "j.1.d") == 1.5
    assert begin(job, "j.1.d") == 1.5  # the next task is begun twice


def test_what_a_dropped_task_left_out_is_dropped_with_it(job: Path) -> None:
    put(job, "j.1.d", 1.0)
    assert begin(job, "j.1.d") == 1.0
    put(job, "j.2.d", 2.0)
    assert begin(job, "j.1.d") == 1.0  # task 2 was refused, or never arrived
    put(job, "j.3.d", 3.0)
    put(job, "j.3.d", 3.5)  # done a second time
    assert begin(job, "j.3.d") == 3.5


def test_another_job_of_the_same_name_inherits_nothing(job: Path) -> None:
    put(job, "j.1.d")
    assert begin(job, "j.1.d") == 1.0
    put(job, "j.2.d")
    assert begin(job, "") is None
    assert list(job.iterdir()) == []


def test_a_residual_that_was_sent_since_does_not_count_again(job: Path) -> None:
    # Task 2 took it along; what it left out itself could not be written.
    put(job, "j.1.d")
    assert begin(job, "j.1.d") == 1.0
    assert begin(job, "j.2.d") is None


def test_a_cut_at_any_byte_leaves_the_kept_one_or_nothing(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    put(job, "j.1.d")
    whole = (job / "pending.safetensors").read_bytes()
    for length in range(0, len(whole), 7):
        (job / "pending.safetensors").write_bytes(whole[:length])
        assert begin(job, "j.1.d") is None
        assert not (job / "pending.safetensors").exists()
    assert "a residual is dropped" in caplog.text


def test_a_flipped_bit_is_found(job: Path) -> None:
    put(job, "j.1.d")
    whole = (job / "pending.safetensors").read_bytes()
    for at in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        (job / "pending.safetensors").write_bytes(damaged)
        found = Residuals(job).begin("j.1.d")
        # In the header a name may have changed; then no tensor of that name is there.
        assert found is None or found.shapes != SHAPES
        (job / "kept.safetensors").unlink(missing_ok=True)


def test_numbers_that_are_none_are_never_written(job: Path) -> None:
    put(job, "j.1.d")
    with pytest.raises(ValueError, match="NaN"):
        put(job, "j.2.d", float("nan"))
    assert list(job.iterdir()) == []


def test_a_kill_while_it_is_written_leaves_what_was_kept(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(job, "j.1.d")
    assert begin(job, "j.1.d") == 1.0

    def killed(*_: object) -> None:
        (job / "pending.safetensors.partial").write_bytes(b"half")
        raise SystemExit

    monkeypatch.setattr(module, "write_safetensors", killed)
    with pytest.raises(SystemExit):
        put(job, "j.2.d", 2.0)
    monkeypatch.undo()
    assert begin(job, "j.1.d") == 1.0
    put(job, "j.2.d", 2.0)
    assert begin(job, "j.2.d") == 2.0


def test_only_so_many_jobs_leave_something(tmp_path: Path) -> None:
    for number in range(MOST_JOBS + 3):
        put(tmp_path / f"job{number}", "t")
    assert len(list(tmp_path.iterdir())) == MOST_JOBS
    assert begin(tmp_path / f"job{MOST_JOBS + 2}", "t") == 1.0


def test_what_is_no_residual_is_left_alone(tmp_path: Path) -> None:
    for number in range(MOST_JOBS + 3):
        (tmp_path / f"other{number}").mkdir()
    put(tmp_path / "job", "t")
    assert len(list(tmp_path.iterdir())) == MOST_JOBS + 4


def test_a_job_is_forgotten_whole(tmp_path: Path) -> None:
    put(tmp_path / "job", "t")
    (tmp_path / "job" / "pending.safetensors.partial").write_bytes(b"half")
    Residuals(tmp_path / "job").forget()
    assert not (tmp_path / "job").exists()
    Residuals(tmp_path / "job").forget()
