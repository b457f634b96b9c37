"""One task from its command to its update, on a base model that stays warm between tasks."""

import gc
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AdapterError, AgentError, DataError
from edge_agent.protocol import Event, Finished, Losses, Progress, Work
from edge_agent.roles import catalogue
from edge_agent.roles.contract import Role
from edge_agent.roles.infer import FORWARD_ONLY
from edge_agent.training.bases import RESIDENT, kind_of, open_base
from edge_agent.training.checkpoint import Checkpoint
from edge_agent.training.contract import Base, Placed, Trained
from edge_agent.training.control import Control
from edge_agent.training.drawn import all_rows, held_out_rows, training_rows
from edge_agent.training.errors import PausedError
from edge_agent.training.evaluate import MAX_ROWS, MAX_TOKENS, evaluate
from edge_agent.training.feedback import ErrorFeedback
from edge_agent.training.following import follow_all
from edge_agent.training.forward_task import train_and_pack
from edge_agent.training.heap import trim_heap
from edge_agent.training.moved import MovedModel
from edge_agent.training.optimizers import check_words
from edge_agent.training.placed_cores import PlacedCores
from edge_agent.training.residuals import Facts
from edge_agent.training.share import ALONE, Share
from edge_agent.training.start import CORE, PackedStart
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from wire.codecs import by_name
from wire.errors import MalformedError
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics
from wire.tensors import PackedFile, pack
from wire.trained_factors import RESTS, TRAINS

log = logging.getLogger(__name__)


class Tasks:
    """Does one task after the other.

    Args:
        report: takes progress and results.
        pause_asked: whether a task, by its name, is to be paused.
        share: what this process does of tasks that `is_shared`; the others must be given the same.
    """

    def __init__(
        self,
        report: Callable[[Event], None],
        pause_asked: Callable[[str], bool],
        share: Share = ALONE,
    ) -> None:
        self._all = share
        self._share: Share = ALONE
        self._report = report
        self._pause_asked = pause_asked
        self._base: Base | None = None
        self._moved: MovedModel | None = None
        self._held: tuple[str, str, Share] = ("", "", ALONE)  # the base's path and kind, and whose
        self._began = self._load_s = 0.0

    def run(self, work: Work) -> None:
        """Do a task; `Finished` is reported last.

        Raises:
            PausedError: between two steps, because that was asked for.
            AgentError: it can't be done; the next one can.
        """
        try:
            self._run(work)
        except (AgentError, PausedError):
            raise  # all processes of a device meet with these
        except Exception as error:
            self._share.abandon(error)
            raise
        finally:
            self.release()

    def release(self) -> None:
        """Give back everything but the base model."""
        if self._moved is not None:
            self._moved.close()
            self._moved = None
        if self._base is not None:
            self._base.clear()
        gc.collect()
        trim_heap()

    def _run(self, work: Work) -> None:
        self._began = time.monotonic()
        self._share = self._all if is_shared(work) else ALONE
        with self._share.together():
            if self._share.index:  # each process writes its parts in a folder of its own
                own = Path(work.out) / f"process-{self._share.index}"
                own.mkdir(parents=True, exist_ok=True)
                work = msgspec.structs.replace(work, out=str(own))
            role = _role(work)
            self._report(Progress(task=work.task, stage="load"))
            manifest = _manifest(work)
            paths = follow_all(work, manifest)  # before the base is in memory
            base = self._warm_base(work)
            metrics = update = None
            start = PackedStart(manifest, paths, work.components)
            placed = self._placed(work, base, start, _trained(role, work))
            trains = work.work is not None and (role.trains or work.rung == FORWARD_ONLY)
            held_out, drawn = self._rows(work, base, trains=trains)
        self._check_same(held_out, drawn)
        self._load_s = time.monotonic() - self._began
        if work.variants:
            part = start.rank if start.rank < manifest.rank else 0
            self._evaluate(work, held_out, placed, part)
        if work.work is not None and work.rung == FORWARD_ONLY:
            metrics, update = self._train_forward(work, work.work, drawn, placed, start)
        elif work.work is not None and trains:
            metrics = self._train(work, work.work, role, drawn, placed)
            trim_heap()  # AdamW's moments, of which many are small, are gone
            if self._share.index == 0:
                update = self._pack(work, work.work, placed, start)
        self._report(Finished(task=work.task, update=update, train=metrics))

    def _placed(self, work: Work, base: Base, start: PackedStart, trained: Trained) -> Placed:
        if not start.weights or trained.full:
            return base.place(start, trained)
        folder, copy = Path(work.base_folder), Path(work.out) / "moved"
        self._moved = MovedModel(base, folder, start, rung=work.rung, work=copy)
        return self._moved

    def _warm_base(self, work: Work) -> Base:
        # All weights are trained by an optimiser of ours, and so are whole in every process.
        share = ALONE if work.role == "full" else self._share
        wanted = (work.base_folder, kind_of(work.rung), share)
        if self._base is None or self._held != wanted:
            if self._base is not None:
                self._base.close()
            self._base = None  # two bases would not fit
            self._base = open_base(Path(work.base_folder), work.rung, share)
            self._held = wanted
        return self._base

    def _rows(self, work: Work, base: Base, *, trains: bool) -> tuple[list[Row], list[Row]]:
        """Return the rows to measure on and those to train on; the vocabulary is then let go."""
        encoder, cleaning = base.encoder, work.cleaning
        held_out: list[Row] = []
        if work.variants:
            measured = held_out_rows if work.hold_out else all_rows
            held_out = measured(encoder, work.data, work.seq_len, cleaning)
        if work.variants and not held_out and not trains:
            raise DataError("no example is in the held-out tenth. Add more text.")
        drawn: list[Row] = []
        if work.work and trains:
            drawn = training_rows(encoder, work.data, work.work, cleaning, hold_out=work.hold_out)
        encoder.release()
        return held_out, drawn

    def _check_same(self, *rows: list[Row]) -> None:
        """Check that all processes have as many rows: text could change while they read it."""
        mine = [float(len(some)) for some in rows]
        squares = self._share.sums([*mine, *(size**2 for size in mine)])
        for size, square in zip(squares[: len(mine)], squares[len(mine) :], strict=True):
            if size**2 != square * self._share.count:  # equality in Cauchy and Schwarz's inequality
                raise DataError("the text changed while it was read; the task may be tried again.")

    def _evaluate(self, work: Work, rows: list[Row], placed: Placed, part: int) -> None:
        """Measure; ``part`` is the number of LoRA's components if they aren't all, else 0."""
        total = len(work.variants)

        def on_variant(done: int) -> None:
            self._report(Progress(task=work.task, stage="evaluate", step=done, steps=total))
            if done < total and self._share.decided(self._pause_asked(work.task)):
                raise PausedError(0)

        on_variant(0)
        most = MAX_TOKENS if work.hold_out else sys.maxsize
        losses = evaluate(
            placed, rows, work.variants, work.batch, on_variant, tokens=most, share=self._share
        )
        if part:
            losses = [
                one if one.variant == "base" else msgspec.structs.replace(one, rank=part)
                for one in losses
            ]
        self._report(Losses(task=work.task, evaluations=losses))

    def _train(
        self,
        work: Work,
        local: LocalWork,
        role: Role,
        rows: list[Row],
        placed: Placed,
    ) -> TrainMetrics:
        def on_step(step: int, loss: float | None) -> None:
            self._report(
                Progress(task=work.task, stage="train", step=step, steps=local.steps, loss=loss)
            )

        on_step(0, None)
        with self._share.together():
            control = _control(work, placed)
        metrics = train(
            placed,
            rows,
            local,
            role.weight_decay,
            on_step,
            checkpoint=_checkpoint(work),
            control=control,
            pause_asked=lambda: self._pause_asked(work.task),
            share=self._share,
        )
        return msgspec.structs.replace(metrics, load_s=self._load_s)

    def _train_forward(
        self, work: Work, local: LocalWork, rows: list[Row], placed: Placed, start: PackedStart
    ) -> tuple[TrainMetrics, str]:
        session = PlacedCores(placed, start, min(work.batch, MAX_ROWS))
        return train_and_pack(
            session,
            rows,
            session.sides,
            work,
            local,
            report=self._report,
            pause_asked=lambda: self._pause_asked(work.task),
            load_s=self._load_s,
        )

    def _pack(self, work: Work, local: LocalWork, placed: Placed, start: PackedStart) -> str:
        self._report(Progress(task=work.task, stage="pack"))
        try:
            codec, update = by_name(work.codec), placed.update()
            memory = _memory(work, local, start, update) if codec.biased else None
            if memory is not None:
                update = memory.added(update)
            packed = pack(update, codec, local.seed)
        except (MalformedError, ValueError) as error:
            raise AgentError(f"the update can't be packed: {error}") from error
        if memory is not None:
            shapes = {name: tensor.shape for name, tensor in update.items()}
            with PackedFile.open(packed, shapes) as sent:
                memory.keep(update, sent.get)
        path = Path(work.out) / "update.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        return str(path)


def is_shared(work: Work) -> bool:
    """Return whether all processes of a device do a task together: those with the base in memory.

    The other rungs read the base from its file as they go, and are done by the first process.
    """
    return work.rung in RESIDENT


def _role(work: Work) -> Role:
    role = catalogue().get(work.role)
    if role is None or work.rung not in role.rungs:
        known = ", ".join(f"{name} ({'/'.join(r.rungs)})" for name, r in catalogue().items())
        raise AgentError(
            f"role {work.role} on rung {work.rung} was asked for; known here are {known}. "
            "Update the agent."
        )
    if work.work is not None:
        check_words(work.work)
    return role


def _memory(
    work: Work, local: LocalWork, start: PackedStart, update: Mapping[str, NDArray[np.float32]]
) -> ErrorFeedback | None:
    if work.feedback is None:
        return None
    if any(name.endswith(CORE) for name in update):
        log.info("what codec %s leaves out of cores is not kept for later", work.codec)
        return None
    reach = local.lr * local.steps
    folder, accepted = Path(work.feedback.folder), work.feedback.accepted
    return ErrorFeedback(folder, Facts(work.task, start.round), accepted, start, reach)


def _control(work: Work, placed: Placed) -> Control | None:
    if work.control is None and work.own_control is None:
        return None
    own = Path(work.own_control) if work.own_control is not None else None
    return Control(placed.trained, Path(work.control) if work.control is not None else None, own)


def _trained(role: Role, work: Work) -> Trained:
    """Return what is trained, of LoRA's factors as the job's rule asks.

    A hub's cores lie between the adapter's own factors, which both sides hold.
    """
    trained = role.trained(work.rung, work.rank)
    if trained.core:
        trained = Trained(rank=trained.core, factors="core")
    if work.work is None or not trained.rank:
        return trained
    factors = next((one for one in TRAINS if one == work.work.trains), None)
    rest = next((one for one in RESTS if one == work.work.rest), None)
    if factors is None or rest is None or (trained.factors == "core") > (factors == "core"):
        raise AgentError(
            f"training of {work.work.trains} with the rest {work.work.rest} was asked for; known "
            f"here are {', '.join(TRAINS)} and {', '.join(RESTS)}. Update the agent."
        )
    return replace(trained, factors=factors, rest=rest)


def _checkpoint(work: Work) -> Checkpoint | None:
    """Return where the task's state is kept. Another rung may go on with it, other work may not."""
    if work.checkpoint is None:
        return None
    adapter = hashlib.sha256(Path(work.manifest).read_bytes()).hexdigest()
    what = msgspec.json.encode(work.work).decode()
    return Checkpoint(Path(work.checkpoint), work.task, work.role, str(work.rank), adapter, what)


def _manifest(work: Work) -> AdapterManifest:
    try:
        return AdapterManifest.decode(Path(work.manifest).read_bytes())
    except (MalformedError, OSError) as error:
        raise AdapterError(f"the adapter's manifest: {error}") from error
