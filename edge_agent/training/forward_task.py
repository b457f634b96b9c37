"""A task without backprop, from its rows to its packed update, on whatever can tell losses."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge_agent.inference.contract import CoreSession
from edge_agent.protocol import Event, Progress, Work
from edge_agent.training.forward_only import train
from edge_agent.training.steps_file import StepsFile
from edge_agent.training.tokens import Row
from wire.forward_only import pack_steps
from wire.messages import LocalWork, TrainMetrics


def train_and_pack(
    session: CoreSession,
    rows: Sequence[Row],
    sides: Sequence[int],
    work: Work,
    local: LocalWork,
    *,
    report: Callable[[Event], None],
    pause_asked: Callable[[], bool],
    load_s: float,
) -> tuple[TrainMetrics, str]:
    """Train cores without backprop, and write the update.

    Args:
        session: the adapter with which the task begins, its cores of side ``work.rank``.
        rows: to draw from.
        sides: of each core, in the order of the targets' names.
        work: the task.
        local: its training, with ``forward``.
        report: takes progress.
        pause_asked: whether the task is to be paused.
        load_s: seconds before the first step.

    Returns:
        What was measured, and the update's file.

    Raises:
        PausedError: after the steps so far were saved.
        AgentError: it can't be done.
    """

    def on_step(step: int, loss: float | None) -> None:
        report(Progress(task=work.task, stage="train", step=step, steps=local.steps, loss=loss))

    on_step(0, None)
    done = train(session, rows, sides, local, on_step, kept=_kept(work), pause_asked=pause_asked)
    report(Progress(task=work.task, stage="pack"))
    path = Path(work.out) / "update.steps"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack_steps(done.steps))
    return msgspec.structs.replace(done.metrics, load_s=load_s), str(path)


def _kept(work: Work) -> StepsFile | None:
    """Return where the steps are kept; other work than this can't go on with them."""
    if work.checkpoint is None:
        return None
    adapter = hashlib.sha256(Path(work.manifest).read_bytes()).hexdigest()
    what = msgspec.json.encode(work.work).decode()
    return StepsFile(Path(work.checkpoint), work.task, str(work.rank), adapter, what)
