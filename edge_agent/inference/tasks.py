"""One task after the other on an inference engine: what `edge_agent.training.task` does on torch.

The same adapter parts, the same rows, the same losses within what the base's file has kept; no
torch, no transformers, no PEFT.
"""

import gc
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from edge_agent.errors import AdapterError, AgentError, DataError
from edge_agent.inference.contract import Adapter, Engine, Factors
from edge_agent.inference.open import open_engine
from edge_agent.loss import Loss
from edge_agent.protocol import Event, Finished, Losses, Progress, Work
from edge_agent.training.drawn import all_rows, held_out_rows
from edge_agent.training.errors import PausedError
from edge_agent.training.following import follow_all, manifest_of
from edge_agent.training.heap import trim_heap
from edge_agent.training.measuring import MAX_TOKENS, VARIANTS, capped
from edge_agent.training.start import PROMPT, PackedStart
from edge_agent.training.tokenizer import load_tokenizer
from edge_agent.training.tokens import Encoder, Row
from wire.messages import Evaluation


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
        if work.role != "infer" or work.rung != "infer":
            raise AgentError(
                f"role {work.role} on rung {work.rung} was asked for; an engine does infer alone. "
                "Install the extra 'train' for other roles."
            )
        self._report(Progress(task=work.task, stage="load"))
        manifest = manifest_of(work)
        paths = follow_all(work, manifest)
        start = PackedStart(manifest, paths, work.components)
        rows = self._rows(work)
        adapter = adapter_of(start, Path(work.manifest).name)
        part = start.rank if start.rank < manifest.rank else 0
        if work.variants:
            self._evaluate(work, rows, adapter, part)
        self._report(Finished(task=work.task))

    def _rows(self, work: Work) -> list[Row]:
        """Return the rows to measure on; the vocabulary is then let go."""
        encoder = self._warm_encoder(work)
        if not work.variants:
            return []
        drawn = held_out_rows if work.hold_out else all_rows
        rows = drawn(encoder, work.data, work.seq_len, work.cleaning)
        encoder.release()
        if not rows:
            raise DataError("no example is in the held-out tenth. Add more text.")
        return capped(rows, MAX_TOKENS if work.hold_out else sys.maxsize)

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
