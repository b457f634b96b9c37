"""One job: its state from the log, and the doing of what that state wants.

Everything here is safe to do twice: after a restart the log is replayed and the same things are
wanted again.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hub.aggregation.check import check_update, reach
from hub.aggregation.contract import AggregationError, RefusedUpdateError
from hub.jobs import JobFile
from hub.models import BaseModel
from hub.rounds import actions, events
from hub.rounds.combining import combine_round
from hub.rounds.desk import Desk
from hub.rounds.queries import may_take, needed_adapters, needed_updates, verdict
from hub.rounds.round import apply
from hub.rounds.state import JobState, MemberState
from hub.rounds.timing import base_known, first_plans, timings
from hub.rounds.wanted import wanted
from hub.scheduling.contract import DeviceView, JobView
from hub.scheduling.schedule import schedule, schedule_evaluation
from wire.codecs import catalogue as codecs
from wire.errors import WireError
from wire.manifest import AdapterManifest, TargetShape
from wire.messages import (
    Accepted,
    AdapterRef,
    Cancel,
    Evaluated,
    JobKnobs,
    LocalWork,
    Offer,
    Refused,
    Reply,
    Result,
    RoundAnnounce,
    Take,
    encode,
)

log = logging.getLogger(__name__)

#: An offer is repeated until it is answered, with growing pauses.
FIRST_RESEND_S = 4.0
LAST_RESEND_S = 60.0
#: How long enough devices wait for those that are still planning.
GRACE_S = 20.0
#: Devices compute from the decoded broadcast, so its rounding is no error between them and us.
BROADCAST_CODEC = "bf16"


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a job besides its events."""

    file: str  # the job file's text
    base: str  # the folder that it was found in
    digest: str
    seed: int
    created_ts: float


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
        self._announced: bytes = b""
        self._offered: dict[str, tuple[str, float, float]] = {}  # device: task, due, pause
        self._cancelled: set[str] = set()
        self._combining: actions.Combine | None = None
        self._checking: set[str] = set()
        self._enough_since: float | None = None
        self._ended = False  # and written down as such
        self._fresh = True  # nothing was broadcast by this process yet

    @property
    def name(self) -> str:
        return self.file.job

    @property
    def over(self) -> bool:
        return self.state.ended is not None

    # Events and actions

    def record(self, event: events.Event) -> None:
        """Log an event, then let it take effect."""
        now = self.desk.now()
        self.desk.store.append(self.name, event, now)
        self.state = apply(self.state, event, now)

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
                self._announce(action)
            case actions.Open():
                self._open(action)
            case actions.OpenEvaluation():
                self._open_evaluation(action)
            case actions.Offer():
                self._offer(action)
            case actions.CancelTask():
                self._cancel(action)
            case actions.CloseRound():
                self.record(events.Clock())
            case actions.Combine():
                self._combine(action)
            case actions.Publish():
                self._publish(action)
            case actions.EndJob():
                self._end(action)

    # Announcing and offering

    def _announce(self, action: actions.Announce) -> None:
        # Everything but the time, to tell whether it says something new.
        document = self._announcement(action, 0.0)
        if encode(document) == self._announced:
            return
        message = msgspec.structs.replace(document, ts=self.desk.now())
        topic = self.desk.topics.job_round(self.name)
        if self.desk.link.publish(topic, encode(message), message.QOS, retain=True):
            self._announced = encode(document)
            if self._fresh and not self.over:
                self._broadcast(action.adapter)
            self._fresh = False

    def _announcement(self, action: actions.Announce, ts: float) -> RoundAnnounce:
        return RoundAnnounce(
            job=self.name,
            round=action.round,
            rounds=self.file.rounds,
            phase=action.phase,
            ts=ts,
            knobs=self.knobs,
            base=self.base.ref,
            adapter=self._reference(action.adapter),
            deadline_ts=action.deadline_ts,
            reason=action.reason or None,
        )

    def forget_announcement(self) -> None:
        """The broker may have lost what it kept: say it again."""
        self._announced = b""

    @property
    def knobs(self) -> JobKnobs:
        """What devices plan with."""
        file, local = self.file, self.file.local
        return JobKnobs(
            method=file.method,
            rank=file.lora.rank,
            min_rank=file.lora.min_rank,
            batch=local.batch,
            min_batch=local.min_batch,
            seq_len=local.seq_len,
            min_seq_len=local.min_seq_len,
            prompt_tokens=file.prompt.tokens if "prompt" in file.method else 0,
        )

    def _reference(self, sha256: str) -> AdapterRef | None:
        size = self.desk.blobs.size(sha256)
        return AdapterRef(sha256=sha256, size_bytes=size) if size else None

    def _broadcast(self, adapter: str) -> None:
        for name, path in self.desk.adapters.files(adapter).items():
            topic = self.desk.topics.slice_chunk(self.name, name)
            self.desk.broadcast.publish(topic, path.name, path)

    def task_name(self, round_: int, device: str) -> str:
        """Return the id of a device's task in a round."""
        return f"{self.name}.{round_}.{device}"

    def _offer(self, action: actions.Offer) -> None:
        member, now = action.member, self.desk.now()
        device = self.desk.sessions.devices.get(member.device)
        if device is None or device.session is None:
            return
        task = self.task_name(action.round, member.device)
        sent = self._offered.get(member.device)
        pause = FIRST_RESEND_S
        if sent is not None and sent[0] == task + device.session:
            if now < sent[1]:
                return
            pause = min(sent[2] * 2, LAST_RESEND_S)
        reference = self._reference(action.start)
        if reference is None:
            return
        self._offered[member.device] = (task + device.session, now + pause, pause)
        training = member.kind == "train"
        work = LocalWork(
            steps=member.steps,
            batch=member.batch,
            seq_len=member.seq_len,
            optimizer=self.file.local.optimizer,
            lr=self._lr(member.role),
            seed=self.spec.seed * 1_000_003 + action.round,
        )
        self.desk.command(
            member.device,
            Offer(
                session=device.session,
                task=task,
                job=self.name,
                round=action.round,
                kind=member.kind,
                role=member.role,
                rung=member.rung,
                rank=member.rank,
                adapter=reference,
                base=self.base.digest,
                http=self.desk.http,
                codec=member.codec,
                work=work if training else None,
                variants=list(member.variants),
                deadline_s=max(1.0, action.deadline_ts - now),
                reason=member.reason,
            ),
        )

    def _lr(self, role: str) -> float:
        return self.file.prompt.lr if role == "prompt" else self.file.local.lr

    def _cancel(self, action: actions.CancelTask) -> None:
        task = self.task_name(action.round, action.device)
        device = self.desk.sessions.devices.get(action.device)
        if device is None or device.session is None or task + device.session in self._cancelled:
            return
        if self.desk.command(
            action.device, Cancel(session=device.session, task=task, reason=action.reason)
        ):
            self._cancelled.add(task + device.session)

    # Scheduling

    def _open(self, action: actions.Open) -> None:
        adapter_bytes = self._adapter_bytes()
        plan = schedule(
            self._view(adapter_bytes),
            self._devices(),
            timings(self.state, adapter_bytes),
            round_=action.round,
            exclude=action.exclude,
            first=first_plans(self.state),
            base_known=base_known(self.state),
            need=action.need,
        )
        if plan.waiting_reason is not None:
            self._enough_since = None
            self._wait(action.round, plan.waiting_reason)
            return
        if self._waits_for_planners(action.round):
            return
        for member in plan.members:
            log.info("job %s, round %d: %s: %s", self.name, action.round, member.device,
                     member.reason)  # fmt: skip
        self.record(
            events.Opened(
                round=action.round,
                attempt=action.attempt,
                members=plan.members,
                deadline_s=plan.deadline_s,
                min_updates=plan.min_updates,
                left_out=plan.left_out,
            )
        )

    def _wait(self, round_: int, reason: str) -> None:
        if reason != self.state.current.waiting:
            log.info("job %s, round %d: %s", self.name, round_, reason)
            self.record(events.Waiting(round=round_, reason=reason))

    def _waits_for_planners(self, round_: int) -> bool:
        """Give devices that still plan a moment, though enough others are ready.

        Planning starts a worker the first time; without the wait, chance would pick the cohort.
        """
        live = self.desk.sessions.live()
        planning = [d.id for d in live if d.info is None or self.name not in d.info.plans]
        now = self.desk.now()
        self._enough_since = self._enough_since or now
        if not planning or now - self._enough_since > GRACE_S:
            self._enough_since = None
            return False
        self._wait(round_, f"enough devices are there; {len(planning)} more still plan")
        return True

    def _open_evaluation(self, action: actions.OpenEvaluation) -> None:
        devices = [one for one in self._devices() if one.id not in action.known]
        members = schedule_evaluation(self._view(self._adapter_bytes()), devices)
        if members:
            self.record(
                events.Opened(
                    round=action.round,
                    attempt=1,
                    members=members,
                    deadline_s=action.remaining_s,
                )
            )

    def _devices(self) -> list[DeviceView]:
        return [
            DeviceView(
                id=device.id,
                plan=device.info.plans.get(self.name) if device.info else None,
                codecs=tuple(device.info.codecs) if device.info else (),
                memory_limit_bytes=device.info.memory_limit_bytes if device.info else 0,
            )
            for device in self.desk.sessions.live()
        ]

    def _view(self, adapter_bytes: int) -> JobView:
        file = self.file
        targets = self.base.chosen_targets(file.lora.targets)
        deadline = file.deadline_s
        return JobView(
            job=self.name,
            rounds=file.rounds,
            cohort_min=file.cohort.min,
            cohort_max=file.cohort.max,
            steps=file.local.steps,
            rank=file.lora.rank,
            codecs={name: codec.bits_per_parameter for name, codec in codecs().items()},
            codec=file.codec,
            deadline_s=None if isinstance(deadline, str) else deadline,
            seed=file.seed,
            adapter_bytes=adapter_bytes,
            lora_parameters_per_rank=sum(out + inp for out, inp in targets.values()),
            prompt_parameters=file.prompt.tokens * self.base.shape.hidden_size,
        )

    def _adapter_bytes(self) -> int:
        files = self.desk.adapters.files(self.state.adapter)
        return sum(path.stat().st_size for path in files.values())

    # What devices report

    def on_device_lost(self, device: str) -> None:
        """A device's session ended."""
        if self._concerns(device):
            self.record(events.DeviceLost(device=device))

    def on_device_back(self, device: str) -> None:
        """A device greeted; its offer is due at once."""
        self._offered.pop(device, None)
        if self._concerns(device):
            self.record(events.DeviceBack(device=device))

    def _concerns(self, device: str) -> bool:
        return bool(self.state.records) and device in self.state.current.members

    def _member(self, device: str, task: str) -> tuple[int, MemberState] | None:
        """Return the round and member that a task belongs to."""
        for record in reversed(self.state.records):
            if self.task_name(record.round, device) == task:
                member = record.members.get(device)
                return (record.round, member) if member is not None else None
        return None

    def allowed_bytes(self, device: str, task: str) -> int | None:
        """Return how large the update of a task may be; None: none is waited for."""
        found = self._member(device, task)
        if found is None or found[1].member.kind != "train" or self.over:
            return None
        member = found[1].member
        view = self._view(0)
        lora = member.role == "lora"
        numbers = view.lora_parameters_per_rank * member.rank if lora else view.prompt_parameters
        names = 2 * len(self.base.targets) + 1
        # Nothing packs worse than raw; the header names each part once, in JSON.
        return numbers * 5 + names * 1024 + 4096

    def on_take(self, device: str, take: Take) -> Reply | None:
        """A device takes or declines its task; None: not a task of this job."""
        found = self._member(device, take.task)
        if found is None:
            return None
        round_, member = found
        if not take.accept:
            reason = take.reason or "no reason given"
            self.record(events.Declined(round=round_, device=device, reason=reason))
            return Accepted(re=take.id, session=take.session)
        unwanted = may_take(self.state, device, round_, self.desk.now())
        if unwanted is not None:
            return Refused(re=take.id, session=take.session, reason=unwanted)
        if member.state == "offered":
            self.record(events.Taken(round=round_, device=device))
        return Accepted(re=take.id, session=take.session)

    def on_evaluated(self, device: str, message: Evaluated) -> Reply | None:
        """A device measured the adapter with which its round began."""
        found = self._member(device, message.task)
        if found is None:
            return None
        self.record(
            events.Evaluated(round=found[0], device=device, evaluations=tuple(message.evaluations))
        )
        return Accepted(re=message.id, session=message.session)

    def on_result(self, device: str, result: Result, reply: Any) -> bool:
        """A task has ended; ``reply`` is called once the outcome is on record.

        Returns:
            False: not a task of this job.
        """
        found = self._member(device, result.task)
        if found is None:
            return False
        round_, member = found
        accepted = Accepted(re=result.id, session=result.session)
        if result.status == "failed":
            reason = result.reason or "no reason given"
            self.record(events.TaskFailed(round=round_, device=device, reason=reason))
            reply(accepted)
        elif member.member.kind == "evaluate":
            evaluations = tuple(result.evaluations)
            self.record(events.Evaluated(round=round_, device=device, evaluations=evaluations))
            reply(accepted)
        else:
            judged = verdict(self.state, device, round_, self.desk.now())
            if judged.counts == "repeat":
                reply(accepted)
            elif judged.counts == "refused":
                reply(Refused(re=result.id, session=result.session, reason=judged.reason))
            elif result.sha256 is None or result.train is None:
                reason = "a training task's result has no update"
                self._refuse(round_, device, result, reason, reply)
            else:
                self._check(round_, member, device, result, reply)
        return True

    def _check(
        self, round_: int, member: MemberState, device: str, result: Result, reply: Any
    ) -> None:
        key = f"{device}.{round_}"
        if key in self._checking:
            return  # a repetition while the first one is looked at; its answer is on its way
        path = self.desk.blobs.path(str(result.sha256))
        record = self.state.record(round_)
        if path is None or record is None:
            self._refuse(round_, device, result, "its blob never arrived; upload it first", reply)
            return
        self._checking.add(key)
        part = member.member
        lr = self._lr(part.role)
        manifest = self.desk.adapters.load(record.start).manifest

        def work() -> None:
            check_update(
                path,
                "lora" if part.role == "lora" else "prompt",
                manifest,
                rank=part.rank,
                codec=part.codec,
                max_rms=reach(lr, part.steps),
            )

        def then(outcome: object) -> None:
            self._checking.discard(key)
            if isinstance(outcome, RefusedUpdateError):
                self._refuse(round_, device, result, str(outcome), reply)
            elif isinstance(outcome, Exception):
                log.error("checking the update of %s failed", device, exc_info=outcome)
                self._refuse(round_, device, result, f"it can't be checked: {outcome}", reply)
            else:
                self._accept(round_, device, result, reply)

        self.desk.background(work, then)

    def _accept(self, round_: int, device: str, result: Result, reply: Any) -> None:
        train = result.train
        if train is None or result.sha256 is None:
            return
        self.record(
            events.UpdateAccepted(
                round=round_,
                device=device,
                sha256=result.sha256,
                size_bytes=self.desk.blobs.size(result.sha256) or 0,
                train=train,
                download_s=result.download_s,
                upload_s=result.upload_s,
                peak_bytes=result.peak_bytes,
            )
        )
        reply(Accepted(re=result.id, session=result.session))
        self.drive()

    def _refuse(self, round_: int, device: str, result: Result, reason: str, reply: Any) -> None:
        log.warning("job %s: the update of %s is refused: %s", self.name, device, reason)
        self.record(events.TaskFailed(round=round_, device=device, reason=reason))
        reply(Refused(re=result.id, session=result.session, reason=reason))
        self.drive()

    # Combining and publishing

    def _combine(self, action: actions.Combine) -> None:
        if self._combining == action:
            return
        self._combining = action
        work = partial(
            combine_round,
            self.desk.blobs,
            self.desk.adapters,
            action,
            rule=self.file.rule,
            strategy=self.file.strategy,
            codec=self._codec,
        )

        def then(outcome: Any) -> None:
            self._combining = None
            if self.over:
                return
            if isinstance(outcome, AggregationError | WireError | OSError):
                reason = str(outcome)
                log.warning("job %s, round %d: %s", self.name, action.round, reason)
                self.record(
                    events.CombineFailed(
                        round=action.round,
                        reason=reason,
                        device=getattr(outcome, "device", None),
                    )
                )
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                manifest, record = outcome
                self.record(events.Combined(round=action.round, manifest=manifest, record=record))
            self.drive()

        self.desk.background(work, then)

    @property
    def _codec(self) -> str:
        return BROADCAST_CODEC if self.file.codec == "auto" else self.file.codec

    def _publish(self, action: actions.Publish) -> None:
        if not self.desk.link.connected:
            return
        self._export(action.manifest)
        self._broadcast(action.manifest)
        updates = needed_updates(self.state)
        self.record(events.Published(round=action.round))
        for sha256 in updates - needed_updates(self.state):
            self.desk.blobs.delete(sha256)

    def _export(self, manifest: str) -> None:
        base = self.base.name if "/" in self.base.name else str(self.base.folder)
        self.desk.adapters.export(manifest, self.folder, base)

    @property
    def folder(self) -> Path:
        """Where the newest adapter lies as PEFT folders."""
        return self.desk.folder / "adapters" / self.name

    def live_blobs(self) -> set[str]:
        """Return the digests of the blobs that this job may still need."""
        live = needed_updates(self.state)
        for version in needed_adapters(self.state):
            if self.desk.blobs.path(version) is not None:
                live |= self.desk.adapters.blobs(version)
        return live

    def _end(self, action: actions.EndJob) -> None:
        if not self._ended:
            self._ended = True
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
        shapes={path: TargetShape(outputs=out, inputs=inp) for path, (out, inp) in targets.items()},
        hidden_size=base.shape.hidden_size,
        parts=[],
    )
