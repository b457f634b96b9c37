"""One job: its state from the log, and the doing of what that state wants.

Everything here is safe to do twice: after a restart the log is replayed and the same things are
wanted again.
"""

import errno
import logging
from collections.abc import Set
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from hub.aggregation.contract import AggregationError, ProductRule
from hub.aggregation.rules import orders, product_rule
from hub.export.whole_folder import export_whole
from hub.jobs import JobFile
from hub.models import BaseModel, target_shapes
from hub.rounds import actions, events
from hub.rounds.asked import told_of
from hub.rounds.combining import combine_round
from hub.rounds.desk import Desk
from hub.rounds.offering import Offering
from hub.rounds.opening import Opening
from hub.rounds.own_round import OwnRound
from hub.rounds.own_text import own_round
from hub.rounds.queries import member_of, needed_adapters, needed_states, needed_updates
from hub.rounds.results import Results
from hub.rounds.round import apply
from hub.rounds.server_state import state_blobs
from hub.rounds.state import JobState
from hub.rounds.wanted import wanted
from wire.errors import WireError
from wire.manifest import AdapterManifest
from wire.messages import AdapterRef, JobKnobs

log = logging.getLogger(__name__)

#: After a failure that is not the updates' fault and may pass: a full disk, say.
COMBINE_AGAIN_S = 60.0
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a job besides its events."""

    file: str  # the job file's text
    base: str  # the folder that it was found in
    digest: str
    seed: int
    created_ts: float
    texts: dict[str, str] = {}  # the hub's own, absolute paths by their key under ``hub``


class JobRun:
    """A job of this hub.

    Args:
        desk: what jobs share.
        spec, file, base: the job, parsed, and its base model.
        state: replayed from the log.
    """

    def __init__(
        self, desk: Desk, spec: JobSpec, file: JobFile, base: BaseModel, state: JobState
    ) -> None:
        self.desk = desk
        self.spec = spec
        self.file = file
        self.base = base
        self.state = state
        self._combining: actions.Combine | None = None
        self._own: OwnRound | None = None  # the hub's own text in the round that is combined
        self._combine_at = self._publish_at = 0.0  # not before
        self._exporting = False
        self._ended = False  # and written down as such
        self._known_over = self.over  # when this process began: that was said before
        self.strategy = file.chosen_strategy()
        self.offering = Offering(self)
        self.opening = Opening(self)
        self.results = Results(self)

    @property
    def name(self) -> str:
        return self.file.job

    @property
    def over(self) -> bool:
        return self.state.ended is not None

    # Events and actions

    def begin(self) -> None:
        """Write the log's first event: the adapter before round 1 is on disk."""
        manifest = start_manifest(self.file, self.base)
        start = self.desk.adapters.begin(
            manifest, self.spec.seed, self.file.codec, ordered=orders(self.rule)
        )
        rules = events.RoundRules(
            job=self.name,
            rounds=self.file.rounds,
            publish_if=self.file.gate(),
            until=self.file.stopping_rule(),
            start_is_base=self.file.method == "lora" or self.file.trains_weights,
        )
        self.record(events.Submitted(rules=rules, start=start))

    def record(self, event: events.Event) -> None:
        """Log an event, then let it take effect. One that changes nothing is not kept."""
        now = self.desk.now()
        state = apply(self.state, event, now)
        if state != self.state:
            self.desk.store.append(self.name, event, now)
            before, self.state = self.state, state
            if len(state.records) > len(before.records):
                self._on_round_over(before)

    def _on_round_over(self, before: JobState) -> None:
        """Delete the updates of a round that was published or rolled back; say so of the latter."""
        for record in self.state.records[len(before.records) - 1 : -1]:
            if record.rolled_back_at is not None:
                log.warning("job %s: round %d was %s", self.name, record.round, record.reason)
        self._forget(needed_updates(before))

    def drive(self) -> None:
        """Do what is wanted until it is only waited for."""
        for _ in range(20):
            before = self.state
            for action in wanted(self.state, self.desk.now()):
                self._do(action)
                if self.state is not before:
                    break
            else:
                return

    def _do(self, action: actions.Action) -> None:
        match action:
            case actions.Announce():
                self.offering.announce(action)
            case actions.Open():
                self.opening.open(action)
            case actions.OpenEvaluation():
                self.opening.open_evaluation(action)
            case actions.Offer():
                self.offering.offer(action)
            case actions.CancelTask():
                self.offering.cancel(action)
            case actions.CloseRound():
                self.record(events.Clock())
            case actions.Combine():
                self._combine(action)
            case actions.Publish():
                self._publish(action)
            case actions.EndJob():
                self._end(action)

    # Devices

    def on_device_lost(self, device: str) -> None:
        """A device's session ended."""
        if self._concerns(device):
            self.record(events.DeviceLost(device=device))

    def on_device_back(self, device: str) -> None:
        """A device greeted; its offer is due at once."""
        self.offering.forget_device(device)
        if self._concerns(device):
            self.record(events.DeviceBack(device=device))

    def _concerns(self, device: str) -> bool:
        if not self.state.records:
            return False
        record = self.state.current
        return any(member_of(record, device, candidate=one) for one in (False, True))

    # What the parts of a job share

    @property
    def knobs(self) -> JobKnobs:
        """What devices plan with."""
        file, local = self.file, self.file.local
        return JobKnobs(
            # A base from scratch is trained like any other.
            method="full" if file.trains_weights else file.method,
            rank=file.lora.rank,
            min_rank=file.lora.min_rank,
            batch=local.batch,
            min_batch=local.min_batch,
            seq_len=local.seq_len,
            min_seq_len=local.min_seq_len,
            prompt_tokens=file.prompt.tokens if "prompt" in file.method else 0,
            prefix=file.trains_prefix,
            optimizer=local.optimizer,
            momentum=local.momentum,
            accumulate=local.accumulate,
            adversarial=local.adversarial is not None,
            kept=self.strategy.local.kept,
            cores=self.rule.cores,
            trains=self._planned_trains,
            forward=min(local.forward.side, file.lora.rank) if local.forward else 0,
            forward_batch=local.forward.batch if local.forward else 0,
        )

    @property
    def _planned_trains(self) -> str:
        """What devices plan for: the most that a round may train."""
        asked = {self.rule.trains(1), self.rule.trains(2)}
        if len(asked) == 1:
            return asked.pop()
        return "both" if "both" in asked else "either"

    def task_name(self, round_: int, device: str, *, candidate: bool = False) -> str:
        """Return the id of a device's task in a round, or of evaluating the round's candidate."""
        return f"{self.name}.{round_}.{'candidate.' if candidate else ''}{device}"

    def reference(self, sha256: str) -> AdapterRef | None:
        """Return how messages name an adapter; None: it isn't here."""
        size = self.desk.blobs.size(sha256)
        return AdapterRef(sha256=sha256, size_bytes=size) if size else None

    @property
    def rule(self) -> ProductRule:
        """How LoRA updates are combined, and what that asks of devices."""
        return product_rule(self.file.rule)

    @cached_property
    def prompt_parameters(self) -> int:
        """How many numbers a prompt or prefix has; 0 in a job without."""
        shapes = start_manifest(self.file, self.base).expected_prompt()
        return sum(prod(shape) for shape in shapes.values())

    def lr(self, role: str) -> float:
        """Return the learning rate of a role."""
        return self.file.prompt.lr if role == "prompt" else self.file.local.lr

    @cached_property
    def _start(self) -> AdapterManifest:
        return start_manifest(self.file, self.base)

    def broadcast(self, adapter: str) -> None:
        """Send an adapter's blobs to everybody, once."""
        for name, path in self.desk.adapters.files(adapter).items():
            topic = self.desk.topics.slice_chunk(self.name, name)
            self.desk.broadcast.publish(topic, path.name, path)

    def adapter_bytes(self) -> int:
        """Return what a device gathers before it can begin."""
        files = self.desk.adapters.files(self.state.adapter)
        return sum(path.stat().st_size for path in files.values())

    # Combining and publishing

    def _combine(self, action: actions.Combine) -> None:
        if self._combining == action or self.desk.now() < self._combine_at:
            return
        self._combining = action
        self._own = own_round(self, action.round)
        work = partial(
            combine_round,
            self.desk.blobs,
            self.desk.adapters,
            action,
            rule=self.file.rule,
            strategy=self.strategy,
            trained=partial(told_of, self, start=self._start),
            codec=self.file.codec,
            seed=self.spec.seed,
            step=self.state.step,
            own=self._own,
        )

        def then(outcome: Any) -> None:
            self._combining = None
            drafts = self._own.held if self._own is not None else frozenset[str]()
            self._own = None
            settled(outcome)
            self._forget(drafts)  # before the next combination may make the same ones
            self.drive()

        def settled(outcome: Any) -> None:
            if self.over:
                return
            if _may_pass(outcome):
                # The updates are safe.
                self._combine_at = self.desk.now() + COMBINE_AGAIN_S
                log.warning(
                    "job %s, round %d can't be combined: %s; trying again in %.0f s",
                    self.name, action.round, outcome or type(outcome).__name__, COMBINE_AGAIN_S,
                )  # fmt: skip
                return
            if isinstance(outcome, Exception):
                if not isinstance(outcome, AggregationError | WireError | OSError):
                    log.error("combining failed", exc_info=outcome)
                reason = f"{type(outcome).__name__}: {outcome}"
                log.warning("job %s, round %d: %s", self.name, action.round, reason)
                device = getattr(outcome, "device", None)
                self.record(events.CombineFailed(round=action.round, reason=reason, device=device))
            else:
                self.record(outcome)

        self.desk.background(work, then, takes_long=self._own is not None)

    def _publish(self, action: actions.Publish) -> None:
        if not self.desk.link.connected or self._exporting:
            return
        if self.desk.now() < self._publish_at:
            return
        self._exporting = True

        def then(outcome: Any) -> None:
            self._exporting = False
            if self.over:
                return
            if _may_pass(outcome):
                self._publish_at = self.desk.now() + COMBINE_AGAIN_S
                log.warning(
                    "job %s, round %d can't be exported: %s; trying again in %.0f s",
                    self.name, action.round, outcome or type(outcome).__name__, COMBINE_AGAIN_S,
                )  # fmt: skip
                return
            if isinstance(outcome, Exception):  # the base is gone, say: devices need no export
                log.error("job %s, round %d is not exported: %s", self.name, action.round, outcome)
            if not action.heard:
                self.broadcast(action.manifest)
            self.record(events.Published(round=action.round))
            self.drive()

        # A whole model takes a while.
        self.desk.background(partial(self._export, action.manifest), then)

    def _forget(self, blobs: Set[str]) -> None:
        """Delete those blobs that no job needs any more."""
        for sha256 in blobs - self.desk.needed_blobs() if blobs else ():
            self.desk.blobs.delete(sha256)

    def _export(self, manifest: str) -> None:
        if self.file.trains_weights:
            export_whole(self.desk.adapters.load(manifest), self.folder, self.base.folder)
            return
        base = self.base.name if "/" in self.base.name else str(self.base.folder)
        self.desk.adapters.export(manifest, self.folder, base)

    @property
    def folder(self) -> Path:
        """Where the newest adapter lies as PEFT folders, or the whole model as one."""
        return self.desk.folder / "adapters" / self.name

    def live_blobs(self) -> set[str]:
        """Return the digests of the blobs that this job may still need."""
        live = needed_updates(self.state)
        for version in needed_adapters(self.state):
            if self.desk.blobs.path(version) is not None:
                live |= self.desk.adapters.blobs(version)
        for kept in needed_states(self.state):
            live |= state_blobs(self.desk.blobs, kept)
        return live | self._own.held if self._own is not None else live

    def stop_work(self) -> None:
        """End what the hub does on its own text, if it does; safe to call at any time."""
        if self._own is not None:
            self._own.stop()

    def _end(self, action: actions.EndJob) -> None:
        if not self._ended:
            self._ended = True
            self.stop_work()
            if not self._known_over:
                log.info("job %s is %s. %s", self.name, action.phase, action.reason)
            self.desk.store.status(self.name, action.phase)


def start_manifest(file: JobFile, base: BaseModel) -> AdapterManifest:
    """Return the manifest, without parts, of a job's first adapter."""
    lora = "lora" in file.method
    targets = base.chosen_targets(file.lora.targets) if lora else {}
    return AdapterManifest(
        job=file.job,
        round=0,
        base=base.digest,
        rank=file.lora.rank if lora else 0,
        tokens=file.prompt.tokens if "prompt" in file.method else 0,
        prefix=base.prefix_shape() if file.trains_prefix else None,
        shapes=target_shapes(targets, file.lora.rank_pattern),
        hidden_size=base.shape.hidden_size,
        parts=[],
        weights=base.weights if file.trains_weights else {},
    )


def _may_pass(outcome: Any) -> bool:
    """Whether a round may well be combined later, though it can't be now."""
    return isinstance(outcome, MemoryError) or (
        isinstance(outcome, OSError) and outcome.errno in _MAY_PASS
    )
