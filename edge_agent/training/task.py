"""One task from its command to its update, on a base model that stays warm between tasks."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.errors import AdapterError, AgentError, DataError
from edge_agent.protocol import Event, Finished, Losses, Progress, Work
from edge_agent.roles import catalogue
from edge_agent.roles.contract import Role
from edge_agent.training.adapter import PlacedAdapter
from edge_agent.training.base import Base, load_base
from edge_agent.training.data import draw
from edge_agent.training.evaluate import MAX_TOKENS, evaluate
from edge_agent.training.lowrank import remove
from wire.codecs import by_name
from wire.errors import MalformedError
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics
from wire.tensors import pack

#: How much text is drawn for each token that is needed; more than tokenizers put into one.
_CHARACTERS_PER_TOKEN = 5
#: However long the task: the text and its tokens must not weigh on the planner's sum.
_MAX_CHARACTERS = 2_000_000
#: The held-out choice is the same in every round, or losses could not be compared.
_HELD_OUT_SEED = 0


class Tasks:
    """Does one task after the other.

    Args:
        report: takes progress and results.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._base: Base | None = None
        self._began = 0.0

    def run(self, work: Work) -> None:
        """Do a task; `Finished` is reported last.

        Raises:
            AgentError: it can't be done; the next one can.
        """
        try:
            self._run(work)
        finally:
            self.release()

    def release(self) -> None:
        """Give back everything but the base model."""
        if self._base is not None:
            remove(self._base.model)
        gc.collect()
        trim_heap()

    def _run(self, work: Work) -> None:
        self._began = time.monotonic()
        role = _role(work)
        self._report(Progress(task=work.task, stage="load"))
        base = self._warm_base(Path(work.base_folder))
        placed = role.place(base, _manifest(work), _paths(work), work.rank)
        if work.variants:
            self._evaluate(work, base, placed)
        metrics = update = None
        if work.work is not None and role.trains:
            metrics = self._train(work, work.work, role, base, placed)
            update = self._pack(work, work.work, placed)
        self._report(Finished(task=work.task, update=update, train=metrics))

    def _warm_base(self, folder: Path) -> Base:
        if self._base is None or self._base.folder != folder:
            self._base = None  # two bases would not fit
            self._base = load_base(folder)
        return self._base

    def _evaluate(self, work: Work, base: Base, placed: PlacedAdapter) -> None:
        total = len(work.variants)

        def on_variant(done: int) -> None:
            self._report(Progress(task=work.task, stage="evaluate", step=done, steps=total))

        on_variant(0)
        examples = draw(work.data, "held_out", MAX_TOKENS * _CHARACTERS_PER_TOKEN, _HELD_OUT_SEED)
        if not examples and work.work is None:
            raise DataError("no example is in the held-out tenth. Add more text.")
        rows = base.encoder.rows(examples, work.seq_len)
        losses = evaluate(placed, rows, work.variants, work.batch, on_variant)
        self._report(Losses(task=work.task, evaluations=losses))

    def _train(
        self,
        work: Work,
        local: LocalWork,
        role: Role,
        base: Base,
        placed: PlacedAdapter,
    ) -> TrainMetrics | None:
        tokens = local.steps * local.batch * local.seq_len
        characters = min(tokens * _CHARACTERS_PER_TOKEN, _MAX_CHARACTERS)
        examples = draw(work.data, "train", characters, local.seed)
        rows = base.encoder.rows(examples, local.seq_len)
        load_s = time.monotonic() - self._began

        def on_step(step: int, loss: float | None) -> None:
            self._report(
                Progress(task=work.task, stage="train", step=step, steps=local.steps, loss=loss)
            )

        on_step(0, None)
        metrics = role.train(placed, rows, local, on_step)
        if metrics is None:
            return None
        return TrainMetrics(
            steps=metrics.steps,
            tokens=metrics.tokens,
            loss_first=metrics.loss_first,
            loss_last=metrics.loss_last,
            seconds_per_step=metrics.seconds_per_step,
            load_s=load_s,
        )

    def _pack(self, work: Work, local: LocalWork, placed: PlacedAdapter) -> str:
        self._report(Progress(task=work.task, stage="pack"))
        try:
            packed = pack(placed.update(), by_name(work.codec), local.seed)
        except (MalformedError, ValueError) as error:
            raise AgentError(f"the update can't be packed: {error}") from error
        path = Path(work.out) / "update.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        return str(path)


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library: there it is freed when it is freed


def _role(work: Work) -> Role:
    role = catalogue().get(work.role)
    if role is None or work.rung not in role.rungs:
        known = ", ".join(f"{name} ({'/'.join(r.rungs)})" for name, r in catalogue().items())
        raise AgentError(
            f"role {work.role} on rung {work.rung} was asked for; known here are {known}. "
            "Update the agent."
        )
    if work.work is not None and work.work.optimizer != "adamw":
        raise AgentError(
            f"optimizer is {work.work.optimizer!r}; known here is adamw. Update the agent."
        )
    return role


def _manifest(work: Work) -> AdapterManifest:
    try:
        return AdapterManifest.decode(Path(work.manifest).read_bytes())
    except (MalformedError, OSError) as error:
        raise AdapterError(f"the adapter's manifest: {error}") from error


def _paths(work: Work) -> dict[str, Path]:
    return {sha256: Path(path) for sha256, path in work.parts.items()}
