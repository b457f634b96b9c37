"""Tells devices what a job wants of them: the announcement to all, an offer to each member."""

from typing import TYPE_CHECKING

import msgspec

from hub.rounds import actions
from hub.rounds.asked import trains_of
from hub.rounds.server_state import read_state
from wire.messages import BlobRef, Cancel, LocalWork, Offer, RoundAnnounce, encode

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

#: An offer is repeated until it is answered, with growing pauses.
FIRST_RESEND_S = 4.0
LAST_RESEND_S = 60.0
#: A retained document has at most 8 KiB; the whole reason is in the round's record.
MAX_REASON = 1000


class Offering:
    """What one job has announced and offered, and when to say it again.

    Args:
        run: the job.
    """

    def __init__(self, run: "JobRun") -> None:
        self._run = run
        self._announced: bytes = b""
        self._offered: dict[str, tuple[str, float, float]] = {}  # device: task, due, pause
        self._cancelled: set[str] = set()
        self._fresh = True  # nothing was broadcast by this process yet

    def announce(self, action: actions.Announce) -> None:
        """Publish the announcement, if it says something new."""
        # Everything but the time, to tell whether it says something new.
        document = self._announcement(action, 0.0)
        if encode(document) == self._announced:
            return
        message = msgspec.structs.replace(document, ts=self._run.desk.now())
        topic = self._run.desk.topics.job_round(self._run.name)
        if self._run.desk.link.publish(topic, encode(message), message.QOS, retain=True):
            self._announced = encode(document)
            if self._fresh and not self._run.over:
                self._run.broadcast(action.adapter)
            self._fresh = False

    def _announcement(self, action: actions.Announce, ts: float) -> RoundAnnounce:
        return RoundAnnounce(
            job=self._run.name,
            round=action.round,
            rounds=self._run.file.rounds,
            phase=action.phase,
            ts=ts,
            knobs=self._run.knobs,
            base=self._run.base.ref,
            adapter=self._run.reference(action.adapter),
            deadline_ts=action.deadline_ts,
            reason=action.reason[:MAX_REASON] or None,
        )

    def forget(self) -> None:
        """The broker may have lost what it kept: say it again."""
        self._announced = b""

    def offer(self, action: actions.Offer) -> None:
        """Offer a task, unless that was done a moment ago."""
        member, now = action.member, self._run.desk.now()
        device = self._run.desk.sessions.devices.get(member.device)
        if device is None or device.session is None:
            return
        task = self._run.task_name(action.round, member.device)
        sent = self._offered.get(member.device)
        pause = FIRST_RESEND_S
        if sent is not None and sent[0] == task + device.session:
            if now < sent[1]:
                return
            pause = min(sent[2] * 2, LAST_RESEND_S)
        reference = self._run.reference(action.start)
        if reference is None:
            return
        self._offered[member.device] = (task + device.session, now + pause, pause)
        training, lora, rule = member.kind == "train", member.role == "lora", self._run.rule
        local = self._run.file.local
        common, own = self._controls(action.state, member.device) if training else (None, None)
        work = LocalWork(
            steps=member.steps,
            batch=member.batch,
            seq_len=member.seq_len,
            optimizer=local.optimizer,
            lr=self._run.lr(member.role),
            seed=self._run.spec.seed * 1_000_003 + action.round,
            momentum=local.momentum,
            weight_decay=local.weight_decay,
            schedule=local.schedule,
            warmup_steps=local.warmup_steps,
            clip=local.clip,
            accumulate=local.accumulate,
            proximal_mu=self._run.strategy.local.proximal_mu,
            control=common,
            own_control=own,
            trains=trains_of(rule, member.rung, action.round) if lora else "both",
            rest=rule.rest if lora else "frozen",
        )
        self._run.desk.command(
            member.device,
            Offer(
                session=device.session,
                task=task,
                job=self._run.name,
                round=action.round,
                kind=member.kind,
                role=member.role,
                rung=member.rung,
                rank=member.rank,
                adapter=reference,
                base=self._run.base.digest,
                http=self._run.desk.http,
                codec=member.codec,
                work=work if training else None,
                variants=list(member.variants),
                deadline_s=max(1.0, action.deadline_ts - now),
                reason=member.reason,
            ),
            # Its deadline counts from receipt, so one that waited in the broker would be late;
            # by then it was repeated.
            expiry_s=int(LAST_RESEND_S),
        )

    def _controls(self, state: str | None, device: str) -> tuple[BlobRef | None, BlobRef | None]:
        """Return the control variates that a device trains with: all devices' mean, its own."""
        if state is None or self._run.strategy.local.control is None:
            return None, None
        blobs = self._run.desk.blobs
        controls = read_state(blobs, state).controls

        def reference(sha256: str | None) -> BlobRef | None:
            size = blobs.size(sha256) if sha256 is not None else None
            return BlobRef(sha256=sha256, size_bytes=size) if sha256 and size else None

        return reference(controls.common), reference(controls.own.get(device))

    def cancel(self, action: actions.CancelTask) -> None:
        """Tell a session, once, that a task is not wanted any more."""
        task = self._run.task_name(action.round, action.device)
        device = self._run.desk.sessions.devices.get(action.device)
        if device is None or device.session is None or task + device.session in self._cancelled:
            return
        if self._run.desk.command(
            action.device, Cancel(session=device.session, task=task, reason=action.reason)
        ):
            self._cancelled.add(task + device.session)

    def forget_device(self, device: str) -> None:
        """The device is new here: its offer is due at once."""
        self._offered.pop(device, None)
