"""Is the plan right? Predicted over measured peak, for shapes, rungs, ranks and lengths.

Every prediction is made, and listed, before anything of it runs. Half of the combinations are on
four shapes that no formula was fitted on and no calibration runs (`bench.shapes`).
"""

from dataclasses import dataclass

from bench.local_agent import LocalAgent, Work
from bench.model_files import ModelFiles
from bench.report import BenchError, Row, checked, failed, say, skipped
from bench.shapes import (
    GEMMA,
    LLAMA_1B,
    LLAMA_SMALL,
    LLAMA_TINY,
    MISTRAL,
    PHI,
    QWEN3,
    QWEN_HALF_B,
    Shape,
)

_LEAST, _MOST = 0.9, 1.1
_MUST = "0.9 to 1.1 (aim 0.95 to 1.05)"
_STEPS = 3
_MB = 1e6


@dataclass(frozen=True)
class _Case:
    """One combination."""

    shape: Shape
    stored: str
    work: Work

    @property
    def name(self) -> str:
        """Everything about it in a few words."""
        rank = f" r={self.work.rank}" if self.work.role == "lora" else ""
        unseen = ", left out" if self.shape.left_out else ""
        return (
            f"{self.shape.name} {self.stored} {self.work.rung}{rank} "
            f"{self.work.batch}x{self.work.seq_len}{unseen}"
        )


def _case(
    shape: Shape, stored: str, rung: str, rank: int, seq_len: int, *, batch: int = 1
) -> _Case:
    role = "prompt" if rung == "prompt" else "lora"
    work = Work(role=role, rung=rung, rank=rank, seq_len=seq_len, batch=batch, steps=_STEPS)
    return _Case(shape, stored, work)


_CASES = (
    _case(LLAMA_1B, "bf16", "streamed", 16, 256),
    _case(LLAMA_1B, "q4_0", "streamed", 8, 512),
    _case(LLAMA_1B, "bf16", "core", 16, 256),
    _case(LLAMA_1B, "bf16", "prompt", 16, 384),
    _case(QWEN_HALF_B, "q4_0", "streamed", 16, 256),
    _case(QWEN_HALF_B, "q4_0", "prompt", 16, 128),
    _case(LLAMA_SMALL, "bf16", "resident", 16, 256),
    _case(LLAMA_SMALL, "bf16", "checkpointed", 4, 512, batch=2),
    _case(MISTRAL, "bf16", "streamed", 8, 512),
    _case(MISTRAL, "bf16", "resident", 4, 128),
    _case(GEMMA, "bf16", "streamed", 16, 256),
    _case(GEMMA, "bf16", "core", 8, 128),
    _case(PHI, "bf16", "checkpointed", 8, 256),
    _case(PHI, "bf16", "streamed", 32, 384),
    _case(QWEN3, "q8_0", "streamed", 32, 256, batch=2),
    _case(QWEN3, "q8_0", "prompt", 16, 512),
)
_QUICK = (
    _case(LLAMA_TINY, "bf16", "streamed", 16, 256),
    _case(LLAMA_TINY, "q4_0", "core", 8, 256),
    _case(LLAMA_TINY, "bf16", "resident", 16, 128),
)


def planner_rows(models: ModelFiles, agent: LocalAgent, *, quick: bool) -> list[Row]:
    """Return one row for each combination.

    Args:
        models: where they are.
        agent: plans and trains; a fresh one, so that it has learnt from no earlier run.
        quick: three combinations on a small shape.
    """
    cases = _QUICK if quick else _CASES
    predicted = [(case, _predict(models, agent, case)) for case in cases]
    say("predicted, before any of them runs:")
    for case, size_bytes in predicted:
        say(f"  {size_bytes / _MB:8.1f} MB  {case.name}")
    rows = [_row(models, agent, case, size_bytes) for case, size_bytes in predicted]
    if quick:
        title = f"planner: {len(_CASES)} combinations on eight shapes"
        rows.append(skipped(title, "", _MUST))
    return rows


def _predict(models: ModelFiles, agent: LocalAgent, case: _Case) -> int:
    plan = agent.plan(models.path(case.shape, case.stored), case.work)
    return plan.predicted_bytes(case.work)


def _row(models: ModelFiles, agent: LocalAgent, case: _Case, predicted_bytes: int) -> Row:
    name = f"planner: {case.name}: predicted {predicted_bytes / _MB:.0f} MB"
    try:
        _, ran = agent.train(models.path(case.shape, case.stored), case.work)
    except BenchError as error:
        say(str(error))
        return failed(name, _MUST)
    ratio = predicted_bytes / ran.peak_bytes
    say(f"  measured {ran.peak_bytes / _MB:.1f} MB, ratio {ratio:.3f}")
    figure = f"{name}, over measured {ran.peak_bytes / _MB:.0f} MB"
    return checked(figure, ratio, "x", _MUST, _LEAST <= ratio <= _MOST)
