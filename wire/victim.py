"""Whom the kernel kills first when the whole machine is out of memory."""

from contextlib import suppress
from pathlib import Path

#: Of -1000 to 1000 (proc_pid_oom_score_adj(5)): before its parent and before what the
#: device's user runs.
_SCORE = 800


def offer_to_killer(pid: int, proc: Path = Path("/proc")) -> None:
    """Let the kernel choose a worker before others; where it has no such file, it chooses.

    Args:
        pid: of the worker.
        proc: where processes are shown.
    """
    with suppress(OSError):
        (proc / str(pid) / "oom_score_adj").write_text(str(_SCORE))
