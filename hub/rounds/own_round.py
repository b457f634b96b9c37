"""What the hub does with its own text in one round: public text goes into the adapter.

The devices' updates are combined first. A worker (`hub.own_text.worker`) then trains that adapter
on the public text as a device of full rank would, and its update is added by the job's rule as the
only one. Of the outcome the loss on the validation text is measured. Whatever goes wrong is noted:
the round goes on with the devices' updates alone.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from hub.aggregation.check import check_update, reach
from hub.aggregation.combine import Combined, combine
from hub.aggregation.contract import (
    BASES,
    Contribution,
    GlobalAdapter,
    Kind,
    ProductRule,
    RefusedUpdateError,
)
from hub.aggregation.rules import factor_rule
from hub.errors import HubError
from hub.own_text.worker import Done, OwnTextError, Worker
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.asked import kind_of
from wire.messages import LocalWork
from wire.messages.plan import Role
from wire.trained_factors import Trains
from wire.work import Work

log = logging.getLogger(__name__)

#: As what its update is combined; no device's, for the only one needs no other name.
NAME = "hub"
#: What is noted of a round in its record.
MEASURED = (
    "public_loss_first",
    "public_loss_last",
    "public_tokens",
    "public_s",
    "validation_loss",
    "validation_base_loss",
)
#: The update never leaves the machine.
_CODEC = "raw"


class StoppedError(HubError):
    """Nobody wants the outcome any more."""


class OwnWork(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done in one round.

    Attributes:
        job: its name, for the log.
        base_folder: of the base model.
        public: path of the text to be trained on, or None.
        validation: path of the text to be measured on, or None.
        variants: what is measured: ``adapter``, and ``base`` while that is not known.
        role, rung: what is trained, and how the base is held.
        local: how it is trained.
        max_s: how long training, and measuring, may take each, in seconds.
        log_file: for what the worker has to say of itself.
    """

    job: str
    base_folder: Path
    public: str | None
    validation: str | None
    variants: tuple[str, ...]
    role: Role
    rung: str
    local: LocalWork
    max_s: float
    log_file: Path

    @property
    def kind(self) -> Kind:
        """Which part of the adapter is trained."""
        return kind_of(self.role)

    @property
    def trains(self) -> Trains:
        """Which of LoRA's factors are trained."""
        return self.local.trains  # type: ignore[return-value]  # ours, from `ProductRule.trains`


class OwnRound:
    """The hub's own text in one round.

    Args:
        work: what is to be done.
        adapters: all versions.

    Attributes:
        record: what was measured.
        problems: what went wrong, each a sentence.
        held: digests of blobs that are needed while this lasts, though no log names them.
    """

    def __init__(self, work: OwnWork, adapters: Adapters) -> None:
        self.work = work
        self.record: dict[str, float] = {}
        self.problems: list[str] = []
        self.held: frozenset[str] = frozenset()
        self._adapters = adapters
        self._worker: Worker | None = None
        self._stopped = False
        self._lock = threading.Lock()  # of the two above

    def stop(self) -> None:
        """End it from another thread: nobody wants the outcome any more."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.kill()

    @contextmanager
    def with_public_text(
        self,
        action: Combine,
        start: GlobalAdapter,
        combined: Combined,
        rule: ProductRule,
        step: int,
    ) -> Iterator[Combined]:
        """Give what the devices' combined updates become with the public text.

        Args:
            action: the round, and the sha256 of ``start``.
            start: the adapter that the updates were combined onto.
            combined: its parts' new values.
            rule: how LoRA factors are combined.
            step: which round it is for the rule, counted from 1.
        """
        if self.work.public is None:
            yield combined
            return
        # Exact and whole: nobody fetches it, and what is rounded here would be rounded twice.
        draft = self._adapters.advance(
            action.start, start, combined, action.round, _CODEC, mixed=False
        )
        self._hold(draft)
        adapter = self._adapters.load(draft)
        with ExitStack() as stack:
            folder = stack.enter_context(self._folder())
            update = self._train(action.round, draft, adapter, folder)
            if update is None:
                yield combined
                return
            added = stack.enter_context(combine(adapter, [update], rule, factor_rule("mean"), step))
            if added.lora is not None and combined.lora is not None:
                # It stands in the draft's basis, and the draft not in the start's.
                added.lora.basis = max(added.lora.basis, combined.lora.basis, key=BASES.index)
            yield Combined(
                lora=combined.lora if added.lora is None else added.lora,
                prompt=combined.prompt if added.prompt is None else added.prompt,
                full=combined.full if added.full is None else added.full,
            )

    def validate(self, round_: int, sha256: str) -> None:
        """Measure an adapter on the validation text, and note the outcome.

        Args:
            round_: that ends with this.
            sha256: of the adapter's manifest.
        """
        if self.work.validation is None:
            return
        self._hold(sha256)
        try:
            done = self._do(self._task(round_, sha256, self.work.validation, Path(), None))
        except (OwnTextError, OSError) as error:
            self._note("validation", round_, str(error))
            return
        losses = {one.variant: one.loss for one in done.evaluations}
        if "adapter" not in losses:
            self._note("validation", round_, "the adapter's loss is not finite.")
        for variant, key in (("adapter", "validation_loss"), ("base", "validation_base_loss")):
            if variant in losses:
                self.record[key] = losses[variant]

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _train(
        self, round_: int, sha256: str, adapter: GlobalAdapter, folder: Path
    ) -> Contribution | None:
        """Return what comes of training an adapter on the public text; None: see `problems`."""
        work = self.work
        rank = adapter.manifest.rank if work.kind == "lora" else 0
        began = time.monotonic()
        try:
            done = self._do(self._task(round_, sha256, str(work.public), folder, work.local))
            if done.update is None or done.train is None:
                raise OwnTextError("its worker sent no update.")
            check_update(
                done.update,
                work.kind,
                adapter.manifest,
                rank=rank,
                codec=_CODEC,
                max_rms=reach(work.local.lr, work.local.steps),
                trains=work.trains,
            )
        except (OwnTextError, RefusedUpdateError, OSError) as error:
            self._note("public_data", round_, str(error))
            return None
        self.record |= {
            "public_loss_first": done.train.loss_first,
            "public_loss_last": done.train.loss_last,
            "public_tokens": done.train.tokens,
            "public_s": round(time.monotonic() - began, 3),
        }
        return Contribution(
            device=NAME,
            kind=work.kind,
            weight=1.0,
            update=done.update,
            rank=rank,
            trains=work.trains,
        )

    def _task(
        self, round_: int, sha256: str, data: str, out: Path, local: LocalWork | None
    ) -> Work:
        """Return a task on an adapter: to train if ``local`` says how, else to measure."""
        work, manifest = self.work, self._adapters.manifest(sha256)
        return Work(
            task=f"{manifest.job}.{round_}.{NAME}",
            role=work.role,
            rung=work.rung,
            rank=manifest.rank if work.kind == "lora" else 0,
            base_folder=str(work.base_folder),
            manifest=str(self._adapters.files(sha256)["manifest"]),
            parts={name: str(path) for name, path in self._adapters.wholes(sha256).items()},
            data=[data],
            hold_out=False,
            codec=_CODEC,
            out=str(out),
            batch=work.local.batch,
            seq_len=work.local.seq_len,
            work=local,
            variants=[] if local is not None else list(work.variants),
        )

    def _do(self, task: Work) -> Done:
        """Do a task on the worker that is there, or on a new one; a failure ends it."""
        with self._lock:
            if self._stopped:
                raise StoppedError("the job is over, or the hub ends.")
            if self._worker is None:
                try:
                    self._worker = Worker(self.work.log_file)
                except OSError as error:
                    raise OwnTextError(f"its worker can't be started: {error}.") from error
            worker = self._worker
        try:
            return worker.do(task, self.work.max_s)
        except OwnTextError as error:
            self.close()
            if self._stopped:
                raise StoppedError("the job is over, or the hub ends.") from error
            raise

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Give an empty folder for the worker; one that a killed hub left is emptied."""
        folder = self.work.log_file.parent / f"own-text-{self.work.job}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def hold(self, blobs: Iterable[str]) -> None:
        """Keep blobs that no log names yet from being taken for old ones."""
        self.held |= set(blobs)

    def _hold(self, sha256: str) -> None:
        self.hold([sha256, *self._adapters.wholes(sha256)])
        self.hold(path.name for path in self._adapters.files(sha256).values())

    def _note(self, key: str, round_: int, problem: str) -> None:
        self.problems.append(f"hub.{key}: {problem}")
        log.warning(
            "job %s, round %d goes on without hub.%s: %s", self.work.job, round_, key, problem
        )
