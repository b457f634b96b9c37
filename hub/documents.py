"""The documents of the HTTP interface, from the states of jobs and devices."""

import msgspec

from hub.api.control import (
    Comparison,
    DeviceDetail,
    DeviceSummary,
    DeviceUsage,
    DoorNote,
    Identity,
    JobDetail,
    JobEvent,
    JobSummary,
    Member,
    Round,
)
from hub.fleet.sessions import RESTS, Device
from hub.rounds import state as rounds
from hub.rounds.job_run import JobRun
from hub.rounds.own_round import MEASURED
from hub.rounds.summary import MemberSummary, RoundSummary, Summary, summary
from hub.store import identities as stored
from hub.store.database import EventRow
from wire.messages import RungPlan

DAY_S = 86_400.0


def job_summary(job: JobRun) -> JobSummary:
    """Return a job's line in the list."""
    return _job_summary(job, summary(job.state))


def _job_summary(job: JobRun, found: Summary) -> JobSummary:
    measured = [
        loss for loss in found.heldout_loss[1 : found.adapter_round + 1] if loss is not None
    ]
    return JobSummary(
        job=found.job,
        phase=found.phase,
        method=job.file.method,
        base=job.base.name,
        round=found.rounds[-1].round if found.rounds[-1].opened_ts else len(found.rounds) - 1,
        rounds=job.file.rounds,
        base_loss=found.base_loss,
        heldout_loss=measured[-1] if measured else None,
        adapter_round=found.adapter_round or None,
        created_ts=job.spec.created_ts,
        reason=found.reason or found.rounds[-1].reason or None,
        base_digest=job.base.digest,
    )


def job_detail(job: JobRun) -> JobDetail:
    """Return all about a job."""
    found = summary(job.state)
    return JobDetail(
        summary=_job_summary(job, found),
        file=job.spec.file,
        seed=job.spec.seed,
        rounds=[_round(one) for one in found.rounds],
        evaluation=_round(found.evaluation) if found.evaluation else None,
        without_prompt_loss=found.without_prompt_loss,
        loss_before=found.loss_before,
        loss_after=found.loss_after,
    )


def _round(found: RoundSummary) -> Round:
    return Round(
        round=found.round,
        phase=found.phase,
        opened_ts=found.opened_ts or 0.0,
        closed_ts=found.closed_ts,
        deadline_s=found.deadline_s,
        heldout_loss=found.heldout_loss,
        worst_tenth=found.worst_tenth,
        spread=found.spread,
        measured_by=found.measured_by,
        comparison=_comparison(found.comparison),
        members=[_member(one) for one in found.members],
        left_out=found.left_out,
        reason=found.reason or None,
        own_text={key: value for key, value in found.record.items() if key in MEASURED},
        problem=found.problem or None,
    )


def _comparison(found: rounds.Comparison | None) -> Comparison | None:
    if found is None:
        return None
    return Comparison(
        metric=found.metric,
        loss=found.loss,
        reference=found.reference,
        reference_round=found.reference_round,
        devices=found.devices,
    )


def _member(one: MemberSummary) -> Member:
    return Member(
        device=one.device,
        role=one.role,
        rung=one.rung,
        rank=one.rank,
        steps=one.steps,
        codec=one.codec,
        state=one.state,
        reason=one.reason,
        problem=one.problem or None,
        loss_first=one.loss_first,
        loss_last=one.loss_last,
        heldout_loss=one.heldout_loss,
        update_bytes=one.update_bytes or 0,
    )


def job_event(row: EventRow) -> JobEvent:
    """Return an entry of a job's record."""
    return JobEvent(seq=row.seq, ts=row.at, kind=row.kind, data=msgspec.json.decode(row.payload))


def device_summary(device: Device, identity: Identity | None = None) -> DeviceSummary:
    """Return a device's line in the list."""
    info = device.info
    return DeviceSummary(
        identity=identity.state if identity is not None else None,
        device=device.id,
        state=device.state,
        seen_ts=device.last_seen,
        memory_limit_bytes=info.memory_limit_bytes if info else None,
        reason=(identity.reason if identity is not None else "") or _reason(device),
        roles={job: _role(plan) for job, plan in info.plans.items()} if info else {},
    )


def _reason(device: Device) -> str | None:
    """Return why a device does nothing now, or can do nothing."""
    if device.state in RESTS:
        return device.state_reason
    plans = device.info.plans.values() if device.info else ()
    return next((plan.reason for plan in plans if plan.role == "none"), None)


def _role(plan: RungPlan) -> str:
    words: list[str] = [plan.role]
    if plan.rung != plan.role:
        words.append(plan.rung)
    if plan.rank:
        words.append(f"rank {plan.rank}")
    return ", ".join(words)


def absent(identity: stored.Identity) -> Device:
    """Return the device of an identity that never connected."""
    return Device(id=identity.device, first_seen=identity.asked, last_seen=0.0)


def identity_document(identity: stored.Identity, now: float) -> Identity:
    """Return a device's place in the fleet; its certificate may have expired meanwhile."""
    signed = bool(identity.certificate)
    left_s = identity.not_after - now
    expired = identity.state == "enrolled" and left_s < 0
    return Identity(
        state="expired" if expired else identity.state,
        key=identity.key,
        asked_ts=identity.asked,
        decided_ts=identity.decided,
        reason=identity.reason,
        serial=identity.serial,
        not_after_ts=identity.not_after if signed else None,
        days_left=round(left_s / DAY_S, 1) if signed else None,
    )


def door_note(row: stored.DoorRow) -> DoorNote:
    """Return something that happened at the door."""
    return DoorNote(seq=row.seq, ts=row.at, kind=row.kind, device=row.device, detail=row.detail)


def device_detail(
    device: Device, identity: Identity | None = None, door: list[DoorNote] | None = None
) -> DeviceDetail:
    """Return all about a device."""
    return DeviceDetail(
        summary=device_summary(device, identity),
        info=device.info,
        telemetry=device.telemetry,
        usage=DeviceUsage(
            peak_bytes=device.peak_bytes,
            predicted_peak_bytes=device.predicted_peak_bytes,
            bytes_up=device.bytes_up,
            bytes_down=device.bytes_down,
        ),
        identity=identity,
        door=door or [],
    )
