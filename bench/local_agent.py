"""``lorikeet-agent plan`` and ``train`` as anybody would call them, with their memory watched."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.limited import MemoryGroup
from bench.report import BenchError, say
from bench.sampled import Ran, run_sampled
from hub.demo.fleet import command_beside
from hub.demo.texts import PACKAGES, write_text

_PATIENCE_S = 900.0
_TEXT_BYTES = 30_000  # about 60 sequences of 256 tokens, six of them held out


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What to train: one sequence at a time where nothing else is said.

    Attributes:
        rung: None for what the planner chooses.
        shrinks: whether rank and length may be lowered to the verbs' own floors before a rung is
            left; else they are what is said here, or nothing.
    """

    role: str = "lora"
    rung: str | None = None
    rank: int = 16
    seq_len: int = 256
    batch: int = 1
    steps: int = 5
    shrinks: bool = False

    def words(self) -> list[str]:
        """Return the sizes as options."""
        sizes = {"rank": self.rank, "seq-len": self.seq_len, "batch": self.batch}
        floors = {} if self.shrinks else {f"min-{name}": size for name, size in sizes.items()}
        return [f"--{name}={size}" for name, size in (sizes | floors).items()]


class RungLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of ``plan --json``."""

    role: str
    rung: str
    rank: int
    predicted_peak_bytes: int
    fits: bool
    missing_bytes: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What ``plan --json`` prints."""

    limit_bytes: int
    chosen: RungLine
    rungs: list[RungLine]

    def predicted_bytes(self, work: Work) -> int:
        """Return the predicted peak of a rung at a work's rank, as the plan lists it.

        Raises:
            BenchError: it doesn't list it.
        """
        for line in self.rungs:
            if line.rung == work.rung and line.rank in (work.rank, 0):
                return line.predicted_peak_bytes
        raise BenchError(f"the plan lists no rung {work.rung} at rank {work.rank}.")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``train --json`` prints."""

    role: str
    rung: str
    rank: int
    loss: list[float]
    seconds_per_step: float | None
    tokens_per_second: float | None
    predicted_peak_bytes: int
    measured_peak_bytes: int
    worker_peak_bytes: int
    out_of_memory: list[str]  # rungs that were tried before


class LocalAgent:
    """Runs the agent's verbs, with state and text in one folder.

    Args:
        folder: made if it isn't there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._runs = 0
        (folder / "text").mkdir(exist_ok=True)
        self._data = write_text(folder / "text", PACKAGES[0], _TEXT_BYTES).path
        # A state of our own, so that a calibration is this machine's, and today's.
        self._environment = dict(os.environ) | {
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def plan(self, model: Path, work: Work, group: MemoryGroup | None = None) -> Plan:
        """Return the ladder for a work's sizes, maybe as it is under a limit.

        Raises:
            BenchError: the command failed.
        """
        command: list[str | Path] = ["plan", "--model", model, *work.words(), "--json"]
        ran = self._run(command, group, _PATIENCE_S)
        return msgspec.json.decode(ran.output(), type=Plan)

    def train(self, model: Path, work: Work) -> tuple[Outcome, Ran]:
        """Train in all memory that there is.

        Raises:
            BenchError: the command failed, or did something else.
        """
        ran = self.try_training(model, work)
        outcome = msgspec.json.decode(ran.output(), type=Outcome)
        if work.rung not in (None, outcome.rung):
            raise BenchError(f"rung {work.rung} was asked for; {outcome.rung} was run.")
        return outcome, ran

    def try_training(
        self,
        model: Path,
        work: Work,
        group: MemoryGroup | None = None,
        timeout_s: float = _PATIENCE_S,
    ) -> Ran:
        """Train, maybe under a limit, however it ends."""
        given = [*work.words(), f"--steps={work.steps}"]
        given += [f"--role={work.role}"] if work.role != "lora" else []
        given += [f"--rung={work.rung}"] if work.rung else []
        say(f"train {model.name}: {' '.join(given)}")
        self._runs += 1
        out = self._folder / f"adapter-{self._runs}"
        command: list[str | Path] = [
            "train",
            "--model",
            model,
            "--data",
            self._data,
            *given,
            "--out",
            out,
            "--json",
        ]
        return self._run(command, group, timeout_s)

    def _run(self, words: Sequence[str | Path], group: MemoryGroup | None, timeout_s: float) -> Ran:
        command: list[str | Path] = [command_beside("lorikeet-agent"), *words]
        return run_sampled(
            group.inside(command) if group else command,
            self._folder / f"run-{self._runs}",
            timeout_s=timeout_s,
            environment=self._environment,
        )


def outcome_of(ran: Ran) -> Outcome | None:
    """Return what a training run printed, None if it didn't end well."""
    if ran.code != 0:
        return None
    return msgspec.json.decode(ran.out, type=Outcome)
