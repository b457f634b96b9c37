"""Memory and speed of the streamed rung against PEFT, and in 4 bits against bfloat16.

Runs take turns (PEFT, bf16, 4 bits, PEFT, ...), so that whatever else the machine does meets all
of them alike; medians count.
"""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.anchor import run_anchor
from bench.limited import MemoryGroup, forget
from bench.local_agent import LocalAgent, Outcome, Work, outcome_of
from bench.model_files import ModelFiles
from bench.report import BenchError, Row, at_most, checked, failed, say, skipped, told
from bench.sampled import Ran
from bench.shapes import LLAMA_1B, LLAMA_TINY, QWEN_HALF_B, Shape

_MB = 1e6
_WORK = Work(rung="streamed", rank=16, seq_len=256, steps=6)
_ROUNDS = 3
_HARD_LIMIT_BYTES = 650_000_000
_HARD_STEPS = 5

_OF_ANCHOR = "memory: 1.1B bf16, streamed, r=16, 256 tokens"
_FOUR_BITS = "memory: 1.1B Q4_0, streamed, r=16, 256 tokens"
_QWEN = "memory: Qwen2.5-0.5B Q4_0, streamed, r=16, 256 tokens"
_IN_GROUP = "1.1B Q4_0 in a hard 650 MB cgroup: steps"
_OVER_ANCHOR = "seconds a step: 1.1B bf16, streamed, over PEFT + checkpointing"
_OVER_BF16 = "seconds a step: 1.1B Q4_0 over bf16, both streamed"


@dataclass
class _Seen:
    """What some runs of one kind showed."""

    vmhwm_bytes: int = 0
    sampled_bytes: int = 0
    tree_bytes: int = 0
    step_s: list[float] = field(default_factory=list)
    others_percent: list[float] = field(default_factory=list)

    def add(self, ran: Ran, step_s: float) -> None:
        self.vmhwm_bytes = max(self.vmhwm_bytes, ran.largest.vmhwm_bytes)
        self.sampled_bytes = max(self.sampled_bytes, ran.largest.sampled_bytes)
        self.tree_bytes = max(self.tree_bytes, ran.tree_bytes)
        self.step_s.append(step_s)
        self.others_percent.append(ran.others_percent)

    def told(self, name: str) -> list[Row]:
        """Return what stands beside the figures that are demanded."""
        return [
            told(f"{name}: sampled anonymous + file pages", self.sampled_bytes / _MB, "MB"),
            told(f"{name}: the same, supervisor and all", self.tree_bytes / _MB, "MB"),
            told(f"{name}: seconds a step", median(self.step_s), "s"),
            told(
                f"{name}: other programs' share of the cores", max(self.others_percent), "%"
            ),
        ]  # fmt: skip


def streaming_rows(
    models: ModelFiles, agent: LocalAgent, folder: Path, *, quick: bool
) -> list[Row]:
    """Return the rows on the two published shapes.

    Args:
        models: where they are.
        agent: runs ours.
        folder: for PEFT's output.
        quick: measure a small shape only, of which nothing is demanded.
    """
    if quick:
        anchor, bf16, four = _take_turns(models, agent, folder, LLAMA_TINY, 1)
        return [
            *_quick_rows(anchor, bf16, four),
            skipped(_OF_ANCHOR, "MB", "<= 0.25 x PEFT (aim 600)"),
            skipped(_FOUR_BITS, "MB", "<= 650 (aim 450)"),
            skipped(_IN_GROUP, "", "5, no kill"),
            skipped(_QWEN, "MB", "<= 450 (aim 300)"),
            skipped(_OVER_ANCHOR, "x", "<= 1.3 (aim 1)"),
            skipped(_OVER_BF16, "x", "<= 2 (aim 1.2)"),
        ]
    anchor, bf16, four = _take_turns(models, agent, folder, LLAMA_1B, _ROUNDS)
    qwen = _Seen()
    qwen.add(*_train(models, agent, QWEN_HALF_B, "q4_0"))
    quarter = 0.25 * anchor.vmhwm_bytes / _MB
    return [
        told("memory: 1.1B bf16, PEFT + checkpointing", anchor.vmhwm_bytes / _MB, "MB"),
        told("1.1B bf16, PEFT: seconds a step", median(anchor.step_s), "s"),
        at_most(_OF_ANCHOR, bf16.vmhwm_bytes / _MB, "MB", quarter, aim=600),
        *bf16.told("1.1B bf16"),
        at_most(_FOUR_BITS, four.vmhwm_bytes / _MB, "MB", 650, aim=450),
        *four.told("1.1B Q4_0"),
        _hard_limit_row(models, agent),
        at_most(_QWEN, qwen.vmhwm_bytes / _MB, "MB", 450, aim=300),
        *qwen.told("Qwen2.5-0.5B Q4_0"),
        at_most(_OVER_ANCHOR, median(bf16.step_s) / median(anchor.step_s), "x", 1.3, aim=1),
        at_most(_OVER_BF16, median(four.step_s) / median(bf16.step_s), "x", 2, aim=1.2),
    ]


def _quick_rows(anchor: _Seen, bf16: _Seen, four: _Seen) -> list[Row]:
    return [
        told("memory: 40M bf16, PEFT + checkpointing", anchor.vmhwm_bytes / _MB, "MB"),
        told("memory: 40M bf16, streamed", bf16.vmhwm_bytes / _MB, "MB"),
        *bf16.told("40M bf16"),
        told("memory: 40M Q4_0, streamed", four.vmhwm_bytes / _MB, "MB"),
        *four.told("40M Q4_0"),
    ]


def _take_turns(
    models: ModelFiles, agent: LocalAgent, folder: Path, shape: Shape, rounds: int
) -> tuple[_Seen, _Seen, _Seen]:
    """Return PEFT's, bf16's and Q4_0's runs."""
    anchor, bf16, four = _Seen(), _Seen(), _Seen()
    model = models.path(shape, "bf16")
    agent.plan(model, _WORK)  # measures the device, in a worker that is not the one that trains
    for number in range(rounds):
        say(f"{shape.name}: turn {number + 1} of {rounds}")
        step_s, ran = run_anchor(model, folder, _WORK.seq_len, _WORK.rank)
        anchor.add(ran, median(step_s))
        bf16.add(*_train(models, agent, shape, "bf16"))
        four.add(*_train(models, agent, shape, "q4_0"))
    return anchor, bf16, four


def _train(models: ModelFiles, agent: LocalAgent, shape: Shape, stored: str) -> tuple[Ran, float]:
    outcome, ran = agent.train(models.path(shape, stored), _WORK)
    if outcome.seconds_per_step is None:
        raise BenchError("lorikeet-agent train gave no seconds per step.")
    return ran, outcome.seconds_per_step


def _hard_limit_row(models: ModelFiles, agent: LocalAgent) -> Row:
    must = f"{_HARD_STEPS}, no kill"
    forget(models.files(LLAMA_1B, "q4_0"))
    work = Work(rung="streamed", rank=_WORK.rank, seq_len=_WORK.seq_len, steps=_HARD_STEPS)
    try:
        with MemoryGroup(_HARD_LIMIT_BYTES) as group:
            ran = agent.try_training(models.path(LLAMA_1B, "q4_0"), work, group)
            kills = group.kills()
    except BenchError as error:
        say(str(error))
        return failed(_IN_GROUP, must)
    outcome: Outcome | None = outcome_of(ran)
    if outcome is None or outcome.rung != work.rung:
        say(ran.errors)
        return failed(_IN_GROUP, must)
    value = f"{len(outcome.loss)}, {kills} kills" if kills else f"{len(outcome.loss)}, no kill"
    ok = len(outcome.loss) == _HARD_STEPS and not kills
    return checked(_IN_GROUP, value, "", must, ok)
