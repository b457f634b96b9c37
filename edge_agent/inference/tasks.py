"""One task after the other on an inference engine: what `edge_agent.training.task` does on torch.

The same adapter parts, the same rows, the same losses within what the base's file has kept; no
torch, no transformers, no PEFT.
"""

import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from edge_agent.errors import AdapterError, AgentError, DataError
from edge_agent.inference.contract import Adapter, Engine, Factors
from edge_agent.inference.open import open_engine
from edge_agent.loss import Loss
from edge_agent.planning.engine import FORWARD_ONLY
from edge_agent.protocol import Event, Finished, Losses, Progress, Work
from edge_agent.training.drawn import all_rows, held_out_rows, training_rows
from edge_agent.training.errors import PausedError
from edge_agent.training.following import follow_all, manifest_of
from edge_agent.training.forward_task import train_and_pack
from edge_agent.training.heap import trim_heap
from edge_agent.training.measuring import MAX_TOKENS, VARIANTS, capped
from edge_agent.training.start import PROMPT, PackedStart
from edge_agent.training.tokenizer import load_tokenizer
from edge_agent.training.tokens import Encoder, Row
from wire.messages import Evaluation, LocalWork, TrainMetrics


class EngineTasks:
    """Does one task after the other, on a base that stays open between them.

    Args:
        report: takes progress and results.
        pause_asked: whether a task, by its name, is to be paused.
        threads: for computing.
    """

    def __init__(
        self,
        report: Callable[[Event], None],
        pause_asked: Callable[[str], bool],
        threads: int,
    ) -> None:
        self._report = report
        self._pause_asked = pause_asked
        self._threads = threads
        self._engine: Engine | None = None
        self._encoder: Encoder | None = None
        self._held = ""  # the base's folder

    def run(self, work: Work) -> None:
        """Do a task; `Finished` is reported last.

        Raises:
            PausedError: between two rows, because that was asked for.
            AgentError: it can't be done; the next one can.
        """
        try:
            self._run(work)
        finally:
            self.release()

    def release(self) -> None:
        """Give back everything but the base."""
        gc.collect()
        trim_heap()

    def _run(self, work: Work) -> None:
        if work.role != "infer" or work.rung not in ("infer", FORWARD_ONLY):
            raise AgentError(
                f"role {work.role} on rung {work.rung} was asked for; an engine does infer alone. "
                "Install the extra 'train' for other roles."
            )
        began = time.monotonic()
        self._report(Progress(task=work.task, stage="load"))
        manifest = manifest_of(work)
        paths = follow_all(work, manifest)
        start = PackedStart(manifest, paths, work.components)
        local = work.work if work.rung == FORWARD_ONLY else None
        rows, drawn = self._rows(work, local)
        adapter = adapter_of(start, Path(work.manifest).name)
        load_s = time.monotonic() - began
        part = start.rank if start.rank < manifest.rank else 0
        if work.variants:
            self._evaluate(work, rows, adapter, part)
        metrics = update = None
        if local is not None:
            metrics, update = self._train(work, local, drawn, adapter, load_s)
        self._report(Finished(task=work.task, update=update, train=metrics))

    def _rows(self, work: Work, local: LocalWork | None) -> tuple[list[Row], list[Row]]:
        """Return the rows to measure on and those to train on; the vocabulary is then let go."""
        encoder = self._warm_encoder(work)
        held_out: list[Row] = []
        drawn: list[Row] = []
        if work.variants:
            measured = held_out_rows if work.hold_out else all_rows
            held_out = measured(encoder, work.data, work.seq_len, work.cleaning)
            if not held_out and local is None:
                raise DataError("no example is in the held-out tenth. Add more text.")
        if local is not None:
            cleaning, hold_out = work.cleaning, work.hold_out
            drawn = training_rows(encoder, work.data, local, cleaning, hold_out=hold_out)
        encoder.release()
        return capped(held_out, MAX_TOKENS if work.hold_out else sys.maxsize), drawn

    def _train(
        self,
        work: Work,
        local: LocalWork,
        rows: Sequence[Row],
        adapter: Adapter,
        load_s: float,
    ) -> tuple[TrainMetrics, str]:
        """Train cores without backprop; return what was measured, and the update's file."""
        engine = self._warm_engine(work)
        sides = [
            min(work.rank, adapter.factors[name].b.shape[1]) for name in sorted(adapter.factors)
        ]
        with closing(engine.open_cores(adapter, work.rank, context=local.seq_len)) as session:
            return train_and_pack(
                session,
                rows,
                sides,
                work,
                local,
                report=self._report,
                pause_asked=lambda: self._pause_asked(work.task),
                load_s=load_s,
            )

    def _warm_encoder(self, work: Work) -> Encoder:
        if self._held != work.base_folder:
            if self._engine is not None:
                self._engine.close()
            self._engine = None  # two bases would not fit
            self._encoder = Encoder(load_tokenizer(Path(work.base_folder)))
            self._held = work.base_folder
        if self._encoder is None:
            self._encoder = Encoder(load_tokenizer(Path(work.base_folder)))
        return self._encoder

    def _warm_engine(self, work: Work) -> Engine:
        if self._engine is None:
            self._engine = open_engine(Path(work.base_folder), self._threads)
        return self._engine

    def _evaluate(self, work: Work, rows: Sequence[Row], adapter: Adapter, part: int) -> None:
        total = len(work.variants)
        found: list[Evaluation] = []
        self._report(Progress(task=work.task, stage="evaluate", step=0, steps=total))
        for done, variant in enumerate(work.variants, 1):
            loss = self._loss(work, rows, _of_variant(adapter, variant))
            mean = loss.total / max(1, loss.tokens)
            if math.isfinite(mean) and loss.tokens:  # JSON has no NaN, nor can one be averaged
                rank = 0 if variant == "base" else part
                one = Evaluation(variant=variant, loss=mean, tokens=loss.tokens)
                found.append(msgspec.structs.replace(one, rank=rank) if rank else one)
            self._report(Progress(task=work.task, stage="evaluate", step=done, steps=total))
        self._report(Losses(task=work.task, evaluations=found))

    def _loss(self, work: Work, rows: Sequence[Row], adapter: Adapter | None) -> Loss:
        engine = self._warm_engine(work)
        total, tokens = 0.0, 0
        # Without slots: nothing is generated, so no sequence needs a place.
        with closing(engine.open(adapter, slots=0, context=work.seq_len)) as session:
            for row in rows:
                if self._pause_asked(work.task):
                    raise PausedError(0)
                one = session.loss(row.ids, row.labels)
                total, tokens = total + one.total, tokens + one.tokens
        return Loss(total, tokens)


def adapter_of(start: PackedStart, name: str) -> Adapter:
    """Return a hub's adapter as an engine takes it.

    Args:
        start: in its files.
        name: tells it apart from others.

    Raises:
        AdapterError: an engine has no place for it, or a file of it is broken.
    """
    if start.weights:
        raise AdapterError(f"{start.name} moves all weights; an engine can't have them moved.")
    if start.prompts and PROMPT not in start.prompts:
        raise AdapterError(f"{start.name} has a prefix; an engine takes soft prompts only.")
    factors = {
        target: Factors(start.factor(f"{target}.lora_A"), start.factor(f"{target}.lora_B"))
        for target in start.shapes
    }
    return Adapter(name, factors, start.prompt() if start.prompts else None)


def _of_variant(adapter: Adapter, variant: str) -> Adapter | None:
    """Return what is in place in a variant; None: nothing."""
    if variant not in VARIANTS:
        raise AdapterError(
            f"variant is {variant!r}; known here are {', '.join(VARIANTS)}. Update the agent."
        )
    if variant == "base":
        return None
    return Adapter(adapter.name, adapter.factors) if variant == "without_prompt" else adapter
