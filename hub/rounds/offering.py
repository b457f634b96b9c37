"""Tells devices what a job wants of them: the announcement to all, an offer to each member."""

from typing import TYPE_CHECKING

import msgspec

from hub.rounds import actions
from hub.rounds.asked import local_work
from hub.rounds.desk import Desk
from hub.rounds.queries import last_accepted
from hub.rounds.server_state import read_state
from hub.scheduling.contract import Member
from wire.codecs import by_name
from wire.messages import (
    BlobRef,
    Cancel,
    Offer,
    RoundAnnounce,
    RoundPhase,
    encode,
)

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

#: An offer is repeated until it is answered, with growing pauses.
FIRST_RESEND_S = 4.0
LAST_RESEND_S = 60.0
#: A retained document has at most 8 KiB; the whole reason is in the round's record.
MAX_REASON = 1000
_LAST = ("done", "failed", "cancelled")


class Offering:
    """What one job has announced and offered, and when to say it again.

    Args:
        run: the job.
    """

    def __init__(self, run: "JobRun") -> None:
        self._run = run
        self._announced: bytes = b""
        self._told: bytes = b""
        self._offered: dict[str, tuple[str, float, float]] = {}  # device: task, due, pause
        self._cancelled: set[str] = set()
        self._fresh = True  # nothing was broadcast by this process yet

    def announce(self, action: actions.Announce) -> None:
        """Publish the announcement and the phase, if they say something new."""
        self._tell_devices(action)
        desk = self._run.desk
        # Everything but the time, to tell whether it says something new.
        document = self._phase(action, 0.0)
        if encode(document) == self._told:
            return
        message = msgspec.structs.replace(document, ts=_now(desk))
        topic = desk.topics.job_phase(self._run.name)
        if desk.link.publish(topic, encode(message), message.QOS, retain=True):
            self._told = encode(document)

    def _tell_devices(self, action: actions.Announce) -> None:
        desk = self._run.desk
        document = self._announcement(action, 0.0)
        # A phase is no news to a device, but for the last one: it costs each of them a kilobyte.
        over = document.phase in _LAST
        news = msgspec.structs.replace(
            document, phase=document.phase if over else "open", deadline_ts=None, reason=None
        )
        if encode(news) == self._announced:
            return
        message = msgspec.structs.replace(document, ts=_now(desk))
        topic = desk.topics.job_round(self._run.name)
        if desk.link.publish(topic, encode(message), message.QOS, retain=True):
            self._announced = encode(news)
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
            deadline_ts=_milliseconds(action.deadline_ts),
            reason=action.reason[:MAX_REASON] or None,
        )

    def _phase(self, action: actions.Announce, ts: float) -> RoundPhase:
        return RoundPhase(
            job=self._run.name,
            round=action.round,
            rounds=self._run.file.rounds,
            phase=action.phase,
            ts=ts,
            deadline_ts=_milliseconds(action.deadline_ts),
            reason=action.reason[:MAX_REASON] or None,
        )

    def forget(self) -> None:
        """The broker may have lost what it kept: say it again."""
        self._announced = self._told = b""

    def offer(self, action: actions.Offer) -> None:
        """Offer a task, unless that was done a moment ago."""
        member, now = action.member, self._run.desk.now()
        device = self._run.desk.sessions.devices.get(member.device)
        if device is None or device.session is None:
            return
        task = self._run.task_name(action.round, member.device, candidate=action.candidate)
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
        training = member.kind == "train"
        common, own = self._controls(action.state, member.device) if training else (None, None)
        work = msgspec.structs.replace(
            local_work(
                self._run,
                member.role,
                member.rung,
                action.round,
                steps=member.steps,
                batch=member.batch,
                seq_len=member.seq_len,
            ),
            proximal_mu=self._run.strategy.local.proximal_mu,
            control=common,
            own_control=own,
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
                deadline_s=max(1.0, round(action.deadline_ts - now, 3)),
                reason=member.reason,
                accepted=self._accepted(member) if training else "",
            ),
            # Its deadline counts from receipt, so one that waited in the broker would be late;
            # by then it was repeated.
            expiry_s=int(LAST_RESEND_S),
        )

    def _accepted(self, member: Member) -> str:
        """Return the device's last accepted task, if the codec makes it keep what it left out."""
        if not by_name(member.codec).biased:
            return ""
        round_ = last_accepted(self._run.state, member.device)
        return "" if round_ is None else self._run.task_name(round_, member.device)

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
        task = self._run.task_name(action.round, action.device, candidate=action.candidate)
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


def _now(desk: Desk) -> float:
    return round(desk.now(), 3)


def _milliseconds(ts: float | None) -> float | None:
    """Return a time without the digits that nobody reads and all devices would pay for."""
    return None if ts is None else round(ts, 3)
