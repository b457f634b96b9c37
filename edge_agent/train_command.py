"""``lorikeet-agent train``, once its options are read: one local task without a hub.

As with ``run``, the command line's library would stay in memory all the time [10 MB, measured], so
the command line replaces itself by ``python -m edge_agent.train_command``.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Literal, NoReturn, TextIO

import msgspec

from edge_agent.endings import exit_codes
from edge_agent.errors import UsageError
from edge_agent.limits.enforcement import Enforcement
from edge_agent.peaks import Peaks, peak_of
from edge_agent.probe.memory import MemoryLimit, memory_limit
from edge_agent.protocol import TrainLocal
from edge_agent.runtimes import TORCH, chosen_runtime
from edge_agent.train_attempt import Attempt, StoppedError, WorkerMemoryError
from edge_agent.train_report import TrainReport, report_of
from edge_agent.train_rungs import AUTO, first_line, line_below, why_not_above
from edge_agent.train_view import Bar, Lines, Said, view_for
from edge_agent.training.data import SUFFIXES
from wire.messages import Adversarial, JobKnobs, LocalWork, RungPlan
from wire.work import Cleaning

#: Exit code of a training that was stopped, as shells have it for Ctrl-C.
STOPPED = 130
_TASK = "train"
#: How the reason of a limit begins that somebody set.
_SET = ("--memory", "cgroup")
CHECKPOINT = "checkpoint.safetensors"
_STOPS = (signal.SIGINT, signal.SIGTERM)


class TrainOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to train, on what, in how much memory, and where the adapter goes."""

    model: str
    data: list[str]
    cleaning: Cleaning = Cleaning()
    out: str
    state: str
    role: Literal["lora", "prompt"]
    rung: str = AUTO
    knobs: JobKnobs
    prompt_kind: Literal["soft", "prefix"] = "soft"
    steps: int
    lr: float
    seed: int
    weight_decay: float | None = None
    schedule: str = "constant"
    warmup_steps: int | None = None
    clip: float | None = 1.0
    adversarial: float | None = None  # epsilon of fgm
    memory_bytes: int | None = None
    threads: int
    force: bool = False
    resume: bool = False
    as_json: bool = False


def become_training(options: TrainOptions) -> NoReturn:
    """Replace this process by a lean one that trains.

    Raises:
        UsageError: an option or a file can't be used.
    """
    check_options(options)
    try:
        words = msgspec.json.encode(options).decode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not UTF-8; give it another name.") from error
    # -P: nothing in the current folder may stand in for a module of ours.
    command = [sys.executable, "-P", "-m", "edge_agent.train_command", words]
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes while the new interpreter starts waits until it can be heeded.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    os.execv(sys.executable, command)  # noqa: S606  (no shell is wanted)


def check_options(options: TrainOptions) -> None:
    """Check what can be checked before anything is measured.

    Raises:
        UsageError: a file isn't there, or the adapter's folder is in use.
    """
    if chosen_runtime() != TORCH:
        raise UsageError(
            f"this device computes with {chosen_runtime()}, which evaluates and serves only; train "
            "needs torch. Install it: pip install 'lorikeet[train]'."
        )
    if not Path(options.model).exists():
        raise UsageError(f"--model is {options.model}; there is no such file or folder.")
    for path in map(Path, options.data):
        if not path.exists():
            raise UsageError(f"--data is {path}; there is no such file or folder.")
        if not path.is_dir() and path.suffix not in SUFFIXES:
            raise UsageError(
                f"--data is {path}; it must be a folder or end in {' or '.join(SUFFIXES)}."
            )
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out is {out}, which is a file; name a folder.")
    if options.resume:
        if not (out / CHECKPOINT).is_file():
            raise UsageError(
                f"--resume was given, but {out} holds no training state. Train without it."
            )
    elif out.is_dir() and any(out.iterdir()) and not options.force:
        stopped = " --resume goes on with what was stopped." if (out / CHECKPOINT).exists() else ""
        raise UsageError(
            f"--out is {out}, which is not empty. Name another folder, or give --force to replace "
            f"the adapter in it.{stopped}"
        )


class Training:
    """The whole command: a plan, then one worker after the other until one gets to the end.

    Args:
        options: as given.
        ladder: of the role, the highest rung first.
        limit: for this process and the worker.
        view: is told how it goes.
    """

    def __init__(
        self,
        options: TrainOptions,
        ladder: list[RungPlan],
        limit: MemoryLimit,
        view: Lines | Bar,
    ) -> None:
        self._options = options
        self._ladder = ladder
        self._limit = limit
        self._view = view
        self._stops = 0
        self._enforcement = Enforcement("train", hard=limit.reason.startswith(_SET))

    def stop(self) -> None:
        """Ask for an end after this step; the second time, now. Safe from a signal handler."""
        self._stops += 1

    def run(self) -> TrainReport:
        """Train on the rung that fits, or on a lower one if memory runs out.

        Raises:
            StoppedError: `stop` was called.
            NothingFitsError: memory suffices for no rung that is left.
            AgentError: the training failed otherwise.
        """
        line = first_line(self._ladder, self._options.rung)
        self._tell_plan(line)
        failed: list[str] = []
        self._enforcement.begin()
        try:
            while True:
                attempt = self._new_attempt(line)
                try:
                    result = attempt.run()
                    self._keep_peak(line, attempt.peak_bytes)
                    if self._options.resume and len(result.seconds) == len(result.losses):
                        self._view.warn("what was learnt before is of another task; began anew.")
                    return report_of(line, self._limit, attempt, result, failed)
                except WorkerMemoryError as error:
                    failed.append(line.rung)
                    line = self._step_down(line, failed, error)
                finally:
                    self._view.close()
        finally:
            self._enforcement.close()

    def _new_attempt(self, line: RungPlan) -> Attempt:
        options = self._options
        return Attempt(
            TrainLocal(
                task=_TASK,
                role=options.role,
                rung=line.rung,
                rank=line.rank,
                model=options.model,
                data=options.data,
                cleaning=options.cleaning,
                out=options.out,
                prompt_kind=options.prompt_kind,
                prompt_tokens=options.knobs.prompt_tokens,
                work=LocalWork(
                    steps=options.steps,
                    batch=line.batch,
                    seq_len=line.seq_len,
                    optimizer=options.knobs.optimizer,
                    lr=options.lr,
                    seed=options.seed,
                    momentum=options.knobs.momentum,
                    weight_decay=options.weight_decay,
                    schedule=options.schedule,
                    warmup_steps=options.warmup_steps,
                    clip=options.clip,
                    accumulate=options.knobs.accumulate,
                    adversarial=None
                    if options.adversarial is None
                    else Adversarial(kind="fgm", epsilon=options.adversarial),
                ),
                checkpoint=str(Path(options.out) / CHECKPOINT),
            ),
            threads=options.threads,
            limit_bytes=self._limit.limit_bytes,
            enforcement=self._enforcement,
            log_file=Path(options.state) / "train-worker.log",
            view=self._view,
            stops_asked=lambda: self._stops,
        )

    def _keep_peak(self, line: RungPlan, measured_bytes: int) -> None:
        """Keep what was predicted and measured beside what the agent itself keeps."""
        peaks = Peaks(Path(self._options.state) / "peaks.json")
        peaks.add(peak_of(_TASK, line, measured_bytes, self._limit.limit_bytes))

    def _step_down(self, line: RungPlan, failed: list[str], error: WorkerMemoryError) -> RungPlan:
        self._view.warn(f"rung {line.rung} ran out of memory: {error}")
        below = line_below(self._ladder, failed)
        self._view.say(f"one rung down: {below.reason}")
        return below

    def _tell_plan(self, line: RungPlan) -> None:
        self._view.say(f"limit {self._limit.limit_bytes / 1e6:.0f} MB ({self._limit.reason})")
        for reason in why_not_above(self._ladder, line):
            self._view.say(reason)
        self._view.say(f"takes {line.reason}")
        if not line.fits:
            self._view.warn(
                f"rung {line.rung} is predicted to need {line.missing_bytes} bytes more than there "
                "are. It runs all the same, under the limit."
            )


def run_training(options: TrainOptions) -> None:
    """Plan, train and report.

    Raises:
        AgentError: see `Training.run`.
    """
    from edge_agent.train_plan import training_ladder

    check_options(options)
    stream: TextIO = sys.stderr if options.as_json else sys.stdout
    view = view_for(stream)
    log = logging.getLogger("edge_agent")
    log.setLevel(logging.INFO)
    log.addHandler(Said(view))
    _make_folders(options)
    limit = memory_limit(options.memory_bytes)
    training = Training(options, training_ladder(options, limit.limit_bytes), limit, view)
    if not options.resume:
        (Path(options.out) / CHECKPOINT).unlink(missing_ok=True)
    for number in _STOPS:
        signal.signal(number, lambda *_: training.stop())
    report = training.run()
    for text in report.told():
        view.say(text)
    if options.as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


def _make_folders(options: TrainOptions) -> None:
    """Make what is written to only in the end, while a mistake still costs nothing.

    Raises:
        UsageError: it can't be made.
    """
    for option, folder in (("--out", options.out), ("--state", options.state)):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{option} is {folder}; it can't be made: {error.strerror}."
            ) from error


def main() -> None:
    """Train as `become_training` describes."""
    for number in _STOPS:
        signal.signal(number, lambda *_: sys.exit(STOPPED))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    options = msgspec.json.decode(sys.argv[1], type=TrainOptions)
    with exit_codes():
        try:
            run_training(options)
        except StoppedError as error:
            sys.stderr.write(f"lorikeet-agent: {error}{_hint(options)}\n")
            sys.exit(STOPPED)


def _hint(options: TrainOptions) -> str:
    kept = Path(options.out) / CHECKPOINT
    if not kept.is_file():
        return " Nothing was kept."
    return f" {kept} holds what was learnt: the same command with --resume goes on from there."


if __name__ == "__main__":
    main()
