"""The memory of an agent that waits: before its first job, and after one whose worker was ended."""

import time
from pathlib import Path

import psutil

from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_most, say, told
from bench.stand import Stand
from edge_agent.probe.process import peak_bytes, resident_bytes
from hub.demo.texts import PACKAGES, write_text

_LIMIT_MB = 50.0  # design, section 4
_JOB_S = 240.0


def idle_rows(
    folder: Path,
    base: Path,
    *,
    quick: bool,
    limit_mb: float = _LIMIT_MB,
    aim_mb: float | None = None,
) -> list[Row]:
    """Return an idle agent's resident memory, which is the greatest of some seconds.

    Args:
        folder: for state and logs.
        base: the model of the job in between.
        quick: watch for two seconds instead of ten.
        limit_mb: what it must not exceed.
        aim_mb: what would be better still.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watch_s = 2.0 if quick else 10.0
    text = write_text(folder, PACKAGES[0], 150_000)
    with Stand(folder / "stand") as stand:
        say("an agent without a job")
        command = agent_command(stand.broker_url, "idle", text.path, folder / "state")
        pid = stand.start("agent", command)
        stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
        before = _watch(pid, watch_s)
        peak = peak_bytes(pid) or 0
        say("the same agent after a job")
        stand.run_job(_short_job(base), _JOB_S)
        _end_worker(stand, pid)
        after = _watch(pid, watch_s)
    return [
        *(
            at_most(f"idle agent{when}: RSS", used / 1e6, "MB", limit_mb, aim=aim_mb)
            for when, used in ((", no job yet", before), (" after a job, its worker ended", after))
        ),
        told("idle agent: peak from its start to ready", peak / 1e6, "MB"),
    ]


def _short_job(base: Path) -> dict[str, object]:
    return {
        "job": "short",
        "model": {"base": str(base)},
        "lora": {"rank": 4},
        "rounds": 1,
        "cohort": {"min": 1, "max": 1},
        "local": {"steps": 2, "batch": 2, "seq_len": 64, "min_seq_len": 64},
        "seed": 7,
    }


def _watch(pid: int, seconds: float) -> int:
    """Return the greatest resident memory of an agent with its children, of which it has none."""
    deadline, greatest = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        used = resident_bytes(pid)
        if used is None:
            raise BenchError("the agent ended while it should have waited.")
        children = psutil.Process(pid).children(recursive=True)
        greatest = max(greatest, used + sum(resident_bytes(child.pid) or 0 for child in children))
        time.sleep(0.25)
    return greatest


def _end_worker(stand: Stand, pid: int) -> None:
    """End the agent's worker, as the agent does itself when it was idle for five minutes."""
    for child in psutil.Process(pid).children():
        child.terminate()
    stand.wait_for("the worker's end", lambda: not psutil.Process(pid).children())
