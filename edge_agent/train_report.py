"""What a local task has come to: numbers for a script, lines for a person."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from edge_agent.probe.memory import MemoryLimit
from edge_agent.protocol import TrainedLocal
from wire.messages import DataSummary, RungPlan

if TYPE_CHECKING:
    from edge_agent.train_attempt import Attempt


class TrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of ``lorikeet-agent train``; ``--json`` prints it as it is.

    Attributes:
        rank: of the LoRA factors, or the side of the cores; 0 for a prompt.
        loss: mean per token, of each step.
        seconds_per_step: the median, without the first step where there are more.
        tokens_per_second: that a loss was taken on, over all steps.
        predicted_peak_bytes: for the command and its worker together, as is the limit.
        measured_peak_bytes: the sum of both processes' greatest resident memory.
        worker_peak_bytes: the worker's alone.
        adapter: the PEFT folder.
        held_out_before: the base's loss on held-out text, null if there is none.
        held_out_after: the same with the adapter.
        out_of_memory: rungs that were tried before, and took too much.
        data: counts of the text, and of what was left out.
    """

    role: str
    rung: str
    rank: int
    batch: int
    seq_len: int
    steps: int
    loss: list[float]
    seconds_per_step: float | None
    tokens_per_second: float
    limit_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    worker_peak_bytes: int
    adapter: str
    held_out_before: float | None
    held_out_after: float | None
    out_of_memory: list[str]
    data: DataSummary | None = None

    def told(self) -> list[str]:
        """Return the lines that a person reads."""
        error = self.predicted_peak_bytes / self.measured_peak_bytes - 1
        step = "" if self.seconds_per_step is None else f", {self.seconds_per_step:.3g} s a step"
        lines = [f"{self.steps} steps, loss {self.loss[0]:.4f} to {self.loss[-1]:.4f}"]
        if self.held_out_before is not None and self.held_out_after is not None:
            lines[0] += f", held-out {self.held_out_before:.4f} to {self.held_out_after:.4f}"
        return [
            *lines,
            f"{self.tokens_per_second:.0f} tokens/s{step}",
            f"peak memory {self.measured_peak_bytes / 1e6:.0f} MB, predicted "
            f"{self.predicted_peak_bytes / 1e6:.0f} MB ({error:+.1%})",
            f"adapter: {self.adapter} (PEFT)",
        ]


def report_of(
    line: RungPlan,
    limit: MemoryLimit,
    attempt: "Attempt",
    result: TrainedLocal,
    failed: Sequence[str],
) -> TrainReport:
    """Return what came of a task.

    Args:
        line: that it was done on.
        limit: that it was done under.
        attempt: the worker that did it.
        result: what it said in the end.
        failed: rungs that ran out of memory before.
    """
    before, after = (attempt.held_out.get(variant) for variant in ("base", "adapter"))
    return TrainReport(
        role=line.role,
        rung=line.rung,
        rank=line.rank,
        batch=line.batch,
        seq_len=line.seq_len,
        steps=len(result.losses),
        loss=result.losses,
        seconds_per_step=typical(result.seconds),
        tokens_per_second=result.tokens_per_second,
        limit_bytes=limit.limit_bytes,
        predicted_peak_bytes=line.predicted_peak_bytes,
        measured_peak_bytes=attempt.peak_bytes,
        worker_peak_bytes=attempt.worker_peak_bytes,
        adapter=result.adapter,
        held_out_before=before.loss if before else None,
        held_out_after=after.loss if after else None,
        out_of_memory=list(failed),
        data=attempt.data,
    )


def typical(seconds: Sequence[float]) -> float | None:
    """Return the median step; the first one, which also reads the base, counts only if alone."""
    if not seconds:
        return None
    return median(seconds[1:] or seconds)
