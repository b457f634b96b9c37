"""Runs a command to its end and watches its memory, and that of all processes below it.

``VmHWM`` is the kernel's own peak of one process: everything resident, the interpreter and all
imports included. Beside it stand samples of anonymous and own file pages (``RssAnon``,
``RssFile``, ``RssShmem`` of proc_pid_status(5)), which may be added up over processes.
"""

import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.report import BenchError

_PERIOD_S = 0.025
_CHILDREN_PERIOD_S = 0.25  # finding them takes a walk over all of /proc
_KIB = 1024


@dataclass
class ProcessPeak:
    """The peaks of one process, in bytes."""

    vmhwm_bytes: int = 0
    sampled_bytes: int = 0
    anonymous_bytes: int = 0


@dataclass(frozen=True)
class Ran:
    """A command that ended.

    Attributes:
        code: its exit code; None if it had to be ended after its time.
        out: its standard output.
        errors: the end of its standard error.
        peak_bytes: greatest sum of ``VmHWM`` over the processes that lived at one instant.
        tree_bytes: greatest sum of sampled pages over its processes at one instant.
        processes: peaks of each process, by pid.
        others_percent: of the machine's processor time that went to other programs meanwhile.
        seconds: it took.
    """

    code: int | None
    out: str
    errors: str
    peak_bytes: int
    tree_bytes: int
    processes: dict[int, ProcessPeak]
    others_percent: float
    seconds: float

    @property
    def largest(self) -> ProcessPeak:
        """The process that needed most: the one that trains."""
        found = self.processes.values()
        return max(found, key=lambda peak: peak.vmhwm_bytes, default=ProcessPeak())

    def output(self) -> str:
        """Return the standard output of a command that ended well.

        Raises:
            BenchError: it didn't.
        """
        if self.code != 0:
            how = "took too long" if self.code is None else f"ended with exit code {self.code}"
            raise BenchError(f"a command {how}: {self.errors[-400:].strip()}")
        return self.out


@dataclass
class Watch:
    """What was seen so far of a process and of those below it."""

    process: psutil.Process
    peaks: dict[int, ProcessPeak] = field(default_factory=dict)
    peak_bytes: int = 0
    tree_bytes: int = 0
    _children: list[int] = field(default_factory=list)
    _looked_s: float = 0.0

    def look(self) -> None:
        """Take one sample."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _CHILDREN_PERIOD_S:
            self._looked_s = now_s
            with suppress(psutil.Error):
                self._children = [child.pid for child in self.process.children(recursive=True)]
        peak_bytes = tree_bytes = 0
        for pid in (self.process.pid, *self._children):
            status = _status(pid)
            if "VmHWM" not in status:  # gone, or a zombie
                continue
            resident = sum(status.get(key, 0) for key in ("RssAnon", "RssFile", "RssShmem"))
            tree_bytes += resident
            peak_bytes += status["VmHWM"]
            peak = self.peaks.setdefault(pid, ProcessPeak())
            peak.vmhwm_bytes = max(peak.vmhwm_bytes, status["VmHWM"])
            peak.sampled_bytes = max(peak.sampled_bytes, resident)
            peak.anonymous_bytes = max(peak.anonymous_bytes, status.get("RssAnon", 0))
        self.tree_bytes = max(self.tree_bytes, tree_bytes)
        self.peak_bytes = max(self.peak_bytes, peak_bytes)


def run_sampled(
    command: Sequence[str | Path],
    folder: Path,
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a command; whatever happens, nothing of it runs when this returns.

    Args:
        command: what to run.
        folder: for its output.
        timeout_s: after which it is ended.
        environment: the whole of it; None for ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out, errors = folder / "stdout", folder / "stderr"
    began_s, busy_s = time.monotonic(), _busy_s()
    with out.open("wb") as out_file, errors.open("wb") as error_file:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=error_file,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us, who then end it
        )
    watch = Watch(psutil.Process(process.pid))
    used_s = _children_s()
    try:
        while process.poll() is None and time.monotonic() - began_s < timeout_s:
            watch.look()
            time.sleep(_PERIOD_S)
        code = process.poll()
    finally:
        _end(process)
    seconds = time.monotonic() - began_s
    others_s = max(0.0, _busy_s() - busy_s - (_children_s() - used_s))
    return Ran(
        code=code,
        out=out.read_text(errors="replace"),
        errors=errors.read_text(errors="replace")[-4000:],
        peak_bytes=watch.peak_bytes,
        tree_bytes=watch.tree_bytes,
        processes=watch.peaks,
        others_percent=100.0 * others_s / (seconds * (psutil.cpu_count() or 1)),
        seconds=seconds,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it, each by its id."""
    if process.poll() is not None:
        return
    top = psutil.Process(process.pid)
    tree = [*top.children(recursive=True), top]
    for one in tree:
        with suppress(psutil.Error):
            one.terminate()
    _, alive = psutil.wait_procs(tree, timeout=5.0)
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    process.wait()


def _status(pid: int) -> dict[str, int]:
    """Return the sizes of a process's status in bytes; none if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    sizes = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * _KIB for words in sizes}


def _busy_s() -> float:
    """Return the processor seconds that all programs of the machine used since its start."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _children_s() -> float:
    """Return the processor seconds of ours, and of our children that have ended, with theirs."""
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
