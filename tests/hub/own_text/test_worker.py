"""The process on the hub's machine: what its end, and an end of patience, look like."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hub.own_text.worker import OwnTextError, Worker
from wire.work import Work

ROOT = Path(__file__).parents[3]


def task(folder: Path) -> Work:
    """Return a task whose adapter isn't there."""
    return Work(
        task="j.1.hub", role="infer", rung="infer", rank=0, base_folder=str(folder),
        manifest=str(folder / "none"), parts={}, data=[], codec="raw", out=str(folder), batch=1,
        seq_len=8,
    )  # fmt: skip


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path / "log")
    yield one
    one.close()
    assert not psutil.pid_exists(one.pid)


def test_a_task_that_fails_says_why(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(OwnTextError, match=r"the adapter's manifest: .*No such file"):
        worker.do(task(tmp_path), 120)


def test_patience_ends(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(OwnTextError, match=r"longer than 0\.01 s. Raise hub.max_s"):
        worker.do(task(tmp_path), 0.01)


def test_a_kill_wakes_whoever_waits(worker: Worker, tmp_path: Path) -> None:
    threading.Thread(target=worker.kill).start()
    with pytest.raises(OwnTextError, match="ended by signal 9; where that is 9, memory"):
        worker.do(task(tmp_path), 120)
    with pytest.raises(OwnTextError, match="ended"):
        worker.do(task(tmp_path), 120)


def test_a_worker_that_cannot_import_torch_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    worker = Worker(tmp_path / "log")
    try:
        with pytest.raises(OwnTextError, match="ModuleNotFoundError"):
            worker.do(task(tmp_path), 120)
    finally:
        worker.close()


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from hub.own_text.worker import Worker\n"
        "print(Worker(Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        process = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    gone, _ = psutil.wait_procs([process], timeout=60)
    assert gone == [process]
