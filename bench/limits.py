"""Does a device train under any limit? The agent in real cgroups, against an oracle.

The agent gets no ``--memory``: it must find the limit itself. The oracle then forces each better
rung, the best first, into a group of the same limit: the first that survives is what a perfect
planner would have taken. A rung that holds a mapped file may survive in less memory than that, for
its pages can be read from the disk again in each step: where it does the same work more slowly
than the rung that was chosen, it does not fit.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.limited import MemoryGroup, forget
from bench.local_agent import LocalAgent, Outcome, Work, outcome_of
from bench.model_files import ModelFiles
from bench.report import BenchError, Row, checked, failed, say, skipped, told
from bench.sampled import Ran
from bench.shapes import LLAMA_1B, LLAMA_TINY, Shape

_STEPS = 5
_WORK = Work(rank=16, seq_len=256, steps=_STEPS, shrinks=True)
#: The greatest first: a rung that was killed in more memory needn't be tried in less.
_LIMITS_MB = (4000, 2000, 1500, 1000, 700, 500, 350)
_QUICK_LIMIT_MB = 500
#: A step that reads the model from the disk again may take a minute; a rung that does so for ever
#: is alive, but of no use to anybody.
_PATIENCE_S = 900.0
_MUST = "5 steps, no kill, <= 1 below the oracle"


def limit_rows(models: ModelFiles, folder: Path, *, quick: bool) -> list[Row]:
    """Return one row for each limit, the least first.

    Args:
        models: where the shape is.
        folder: for the agents' files.
        quick: one limit on a small shape, without an oracle.
    """
    trial = _Trial(models, folder, LLAMA_TINY if quick else LLAMA_1B)
    limits = (_QUICK_LIMIT_MB,) if quick else _LIMITS_MB
    rows = [trial.row(limit, oracle=not quick) for limit in limits]
    if quick:
        rows += [skipped(_name(LLAMA_1B, limit), "", _MUST) for limit in _LIMITS_MB]
    return rows[::-1]


class _Trial:
    """Trains one shape under limits, and remembers which rungs were too much."""

    def __init__(self, models: ModelFiles, folder: Path, shape: Shape) -> None:
        self._shape, self._folder = shape, folder
        self._model = models.path(shape, "bf16")
        self._files = models.files(shape, "bf16") + _libraries()
        self._too_much: set[str] = set()

    def row(self, limit_mb: int, *, oracle: bool) -> Row:
        """Return the outcome under one limit."""
        try:
            return self._row(limit_mb, oracle=oracle)
        except BenchError as error:
            say(str(error))
            return failed(_name(self._shape, limit_mb), _MUST)

    def _row(self, limit_mb: int, *, oracle: bool) -> Row:
        name = _name(self._shape, limit_mb)
        # A new device: it measures itself under the limit, too.
        agent = LocalAgent(self._folder / f"{limit_mb}MB")
        forget(self._files)
        with MemoryGroup(limit_mb * 1_000_000) as group:
            plan = agent.plan(self._model, _WORK, group)
            planning_kills = group.kills()
        say(f"{name}: {plan.chosen.rung} is chosen; {planning_kills} kills while planning")
        work = msgspec.structs.replace(_WORK, role=plan.chosen.role)
        ran, kills = self._run(agent, limit_mb, work)
        outcome = outcome_of(ran)
        if outcome is None:
            say(f"{name}: exit code {ran.code}, {kills} kills: {ran.errors[-400:]}")
            return failed(name, _MUST)
        kills += planning_kills + len(outcome.out_of_memory)  # a watchdog's, too
        steps = len(outcome.loss)
        rank = f" r={outcome.rank}" if outcome.rank else ""
        value = f"{outcome.rung}{rank}, {steps} steps, {kills or 'no'} kill{'s' * (kills > 1)}"
        say(f"{name}: {value}")
        if not oracle:
            return told(name, value)
        ladder = {line.rung: line.role for line in plan.rungs}  # the best first
        place = list(ladder).index(outcome.rung)
        best = self._best_above(agent, limit_mb, ladder, outcome)
        value += f"; oracle {list(ladder)[best]}"
        return checked(name, value, "", _MUST, steps >= _STEPS and not kills and place - best <= 1)

    def _best_above(
        self, agent: LocalAgent, limit_mb: int, ladder: Mapping[str, str], chosen: Outcome
    ) -> int:
        """Return the best rung that fits, by its place on the ladder."""
        place = list(ladder).index(chosen.rung)
        for above, (rung, role) in enumerate(list(ladder.items())[:place]):
            if rung in self._too_much:
                continue
            work = msgspec.structs.replace(_WORK, rung=rung, role=role)
            ran, kills = self._run(agent, limit_mb, work)
            outcome = outcome_of(ran)
            if outcome is None or outcome.rung != rung or kills:
                say(f"{_name(self._shape, limit_mb)}: {rung} does not survive")
            elif _slower(outcome, chosen):
                say(
                    f"{_name(self._shape, limit_mb)}: {rung} survives at "
                    f"{outcome.seconds_per_step:.1f} s a step; {chosen.rung} takes "
                    f"{chosen.seconds_per_step:.1f} s"
                )
            else:
                return above
            self._too_much.add(rung)
        return place

    def _run(self, agent: LocalAgent, limit_mb: int, work: Work) -> tuple[Ran, int]:
        forget(self._files)
        with MemoryGroup(limit_mb * 1_000_000) as group:
            ran = agent.try_training(self._model, work, group, _PATIENCE_S)
            return ran, group.kills()


def _slower(outcome: Outcome, chosen: Outcome) -> bool:
    """Whether a rung does the same work in more time."""
    same = (outcome.role, outcome.rank) == (chosen.role, chosen.rank)
    return same and (outcome.seconds_per_step or 0.0) > (chosen.seconds_per_step or 0.0)


def _name(shape: Shape, limit_mb: int) -> str:
    return f"limit {limit_mb} MB: {shape.name} bf16"


def _libraries() -> list[Path]:
    """Return torch's libraries: in a container they would count, too."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return []
    return sorted((Path(found.origin).parent / "lib").glob("*.so*"))
