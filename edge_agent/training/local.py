"""A task without a hub: a fresh adapter is trained and written as a PEFT folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import torch

from edge_agent.errors import AgentError
from edge_agent.planning.counts import rows_at_a_time
from edge_agent.protocol import Counted, Event, Losses, Progress, TrainedLocal, TrainLocal
from edge_agent.roles import catalogue
from edge_agent.roles.contract import Role
from edge_agent.training.bases import open_base
from edge_agent.training.checkpoint import Checkpoint, Done
from edge_agent.training.contract import Base, Placed, Trained
from edge_agent.training.data import count
from edge_agent.training.drawn import held_out_rows, training_rows
from edge_agent.training.evaluate import evaluate
from edge_agent.training.heap import trim_heap
from edge_agent.training.start import PROMPT, FreshStart
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from wire.peft_folder import write_lora, write_prefix, write_prompt


def train_local(
    command: TrainLocal, report: Callable[[Event], None], pause_asked: Callable[[str], bool]
) -> None:
    """Do a local task; `TrainedLocal` is reported last.

    Args:
        command: what to train, on what, and where to put it.
        report: takes progress and results.
        pause_asked: whether a task, by its name, is to be paused.

    Raises:
        PausedError: between two steps, because that was asked for.
        AgentError: it can't be done.
    """
    report(Counted(task=command.task, data=count(command.data)))
    report(Progress(task=command.task, stage="load"))
    base = open_base(Path(command.model), command.rung)
    try:
        _LocalTask(command, base, report, pause_asked).run()
    finally:
        base.clear()
        base.close()


class _Resumable(Checkpoint):
    """A checkpoint that remembers which losses it was taken up with."""

    earlier: Sequence[float] = ()

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> Done | None:
        done = super().load(tensors, steps)
        self.earlier = list(done.losses) if done else []
        return done


class _LocalTask:
    """One task on a base that is open."""

    def __init__(
        self,
        command: TrainLocal,
        base: Base,
        report: Callable[[Event], None],
        pause_asked: Callable[[str], bool],
    ) -> None:
        self._command = command
        self._base = base
        self._report = report
        self._pause_asked = pause_asked
        self._role = _role(command)
        self._checkpoint = _checkpoint(command)
        self._losses: list[float] = []
        self._seconds: list[float] = []
        self._stepped_at = 0.0

    def run(self) -> None:
        command = self._command
        placed = self._place()
        held_out = held_out_rows(self._base.encoder, command.data, command.work.seq_len)
        rows = training_rows(self._base.encoder, command.data, command.work)
        self._base.encoder.release()
        self._evaluate(placed, held_out, "base")
        tokens_per_second = self._train(placed, rows)
        trim_heap()  # AdamW's moments, of which many are small, are gone
        self._evaluate(placed, held_out, "adapter")
        self._report(Progress(task=command.task, stage="write"))
        self._write(placed)
        self._report(
            TrainedLocal(
                task=command.task,
                adapter=command.out,
                losses=self._losses,
                seconds=self._seconds,
                tokens_per_second=tokens_per_second,
            )
        )

    def _place(self) -> Placed:
        command, base = self._command, self._base
        trained = self._role.trained(command.rung, command.rank)
        tokens = command.prompt_tokens if trained.prompt else 0
        if trained.prompt and command.prompt_kind == "prefix":
            trained, tokens = Trained(prefix=tokens, seed=command.work.seed), 0
        start = FreshStart(base.targets, trained.rank, tokens, base.hidden_size, command.work.seed)
        return base.place(start, trained)

    def _evaluate(self, placed: Placed, rows: Sequence[Row], variant: str) -> None:
        if not rows:
            return
        task = self._command.task
        self._report(Progress(task=task, stage="evaluate"))
        found = evaluate(
            placed, rows, [variant], rows_at_a_time(self._command.work), lambda _: None
        )
        self._report(Losses(task=task, evaluations=found))

    def _train(self, placed: Placed, rows: Sequence[Row]) -> float:
        """Do the steps; return how many tokens a second a loss was taken on."""
        work = self._command.work
        mean = sum(row.targets for row in rows) / max(1, len(rows))
        per_step = mean * min(work.batch, len(rows))

        def tell(step: int, loss: float | None) -> None:
            self._report(
                Progress(
                    task=self._command.task,
                    stage="train",
                    step=step,
                    steps=work.steps,
                    loss=loss,
                    tokens_per_step=per_step,
                )
            )

        def on_step(step: int, loss: float) -> None:
            now = time.monotonic()
            if step == len(self._checkpoint.earlier):  # nothing was done yet but to resume
                self._losses += self._checkpoint.earlier
            else:
                self._losses.append(loss)
                self._seconds.append(now - self._stepped_at)
            self._stepped_at = now
            tell(step, loss)

        tell(0, None)
        self._stepped_at = time.monotonic()
        metrics = train(
            placed,
            rows,
            work,
            self._role.weight_decay,
            on_step,
            checkpoint=self._checkpoint,
            pause_asked=lambda: self._pause_asked(self._command.task),
        )
        return metrics.tokens / (metrics.seconds_per_step * metrics.steps)

    def _write(self, placed: Placed) -> None:
        command, folder = self._command, Path(self._command.out)
        values = placed.values()
        try:
            if PROMPT in values:
                write_prompt(folder, values[PROMPT], command.model)
            elif command.role == "prompt":
                write_prefix(folder, values, command.model)
            else:
                write_lora(folder, values, command.model)
            Path(command.checkpoint).unlink(missing_ok=True)
        except OSError as error:
            raise AgentError(
                f"--out is {folder}; it can't be written: {error.strerror}."
            ) from error


def _role(command: TrainLocal) -> Role:
    role = catalogue().get(command.role)
    if role is None or not role.trains or command.rung not in role.rungs:
        raise AgentError(f"role {command.role} can't be trained on rung {command.rung}.")
    return role


def _checkpoint(command: TrainLocal) -> _Resumable:
    """Return where the state is kept: another rung may go on with it, another task may not."""
    facts = msgspec.structs.replace(command, rung="", out="", checkpoint="")
    return _Resumable(Path(command.checkpoint), msgspec.json.encode(facts).decode())
