"""A round's plan from what devices report and the hub has timed.

Everything is chosen so that each device ends by the deadline: a slow one gets fewer local steps,
and is left out only if not even one step fits. Each choice carries its reason.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from hub.scheduling.assignment import (
    assign_evaluation,
    assign_training,
    predicted_s,
    still_fits,
    variants_of,
)
from hub.scheduling.candidates import Candidate, find_candidates
from hub.scheduling.contract import (
    FORWARD_ONLY,
    DeviceTiming,
    DeviceView,
    JobView,
    Member,
    Schedule,
    Variant,
)
from hub.scheduling.deadline import auto_deadline_s

_UNTIMED = DeviceTiming()
FINAL_VARIANTS: tuple[Variant, ...] = ("base", "adapter", "without_prompt")
CANDIDATE_VARIANTS: tuple[Variant, ...] = ("adapter",)


def schedule(
    job: JobView,
    devices: Sequence[DeviceView],
    history: Mapping[str, DeviceTiming],
    *,
    round_: int,
    exclude: Collection[str] = (),
    first: Mapping[str, Member] | None = None,
    base_known: Collection[str] = (),
    adapter_known: Collection[str] = (),
    need: int | None = None,
) -> Schedule:
    """Return a round's members and deadline, or why it can't begin yet.

    A round begins once ``need`` devices can train; up to ``cohort_max`` of them are taken, and as
    many evaluators. ``min_updates``, the job's own number or ``cohort_min``, is at most the number
    of members that train: a round that even perfect devices couldn't fill would only be waited
    for.

    Args:
        job: what the job file asks for.
        devices: the fleet.
        history: by device; a device that isn't in it was never timed.
        round_: seeds the draw among devices that served equally often.
        exclude: devices that had their chance in this round.
        first: each device's first training in this job; a seeded job repeats it, as long as the
            device's plan still allows it and its last round was not missed.
        base_known: devices that reported their loss without adapter; it never changes.
        adapter_known: devices that reported their loss of the adapter with which the round begins.
        need: training devices that suffice; None: ``cohort_min``. A second attempt needs fewer.
    """
    need = job.cohort_min if need is None else need
    history = {one.id: _limited(history.get(one.id, _UNTIMED), one) for one in devices}
    first = first or {}
    found = find_candidates(devices, history, exclude=exclude, seed=job.seed or 0, round_=round_)
    left_out = dict(found.left_out)
    fixed = {
        one.device.id: plan
        for one in found.trainers
        if (plan := _fixed(job, one, history, first)) is not None
    }
    deadline_s = _deadline_s(job, found.trainers[: job.cohort_max], history, fixed)
    members: list[Member] = []
    for one in found.trainers:
        device = one.device.id
        if len(members) == job.cohort_max:
            left_out[device] = f"the cohort is full ({job.cohort_max}); others served less often"
            continue
        decided = assign_training(
            job,
            one,
            history.get(device, _UNTIMED),
            deadline_s=deadline_s,
            fixed=fixed.get(device),
            variants=variants_of(device, base_known, adapter_known),
        )
        if isinstance(decided, Member):
            members.append(decided)
        else:
            left_out[device] = decided
    if len(members) < max(need, 1):
        return Schedule(
            waiting_reason=_waiting(len(members), max(need, 1), len(found.evaluators), left_out),
            left_out=left_out,
        )
    training = len(members)
    members += _evaluators(job, found.evaluators, base_known, adapter_known, left_out)
    return Schedule(
        members=tuple(sorted(members, key=lambda one: one.device)),
        deadline_s=deadline_s,
        min_updates=min(job.min_updates or job.cohort_min, training),
        left_out=left_out,
    )


def schedule_evaluation(
    job: JobView,
    devices: Iterable[DeviceView],
    variants: tuple[Variant, ...] = FINAL_VARIANTS,
) -> tuple[Member, ...]:
    """Return an evaluation's members: every ready device that can at least infer.

    At the job's end the result is compared with the base and with the adapter less its prompt, on
    the same text.
    """
    found = find_candidates(devices, {}, exclude=(), seed=0, round_=job.rounds + 1)
    members = [
        assign_evaluation(one, _any_codec(job, one), variants=variants)
        for one in (*found.trainers, *found.evaluators)
    ]
    return tuple(sorted(members, key=lambda one: one.device))


def _limited(timing: DeviceTiming, device: DeviceView) -> DeviceTiming:
    """Return a device's rates within the limits that its user set since, or set at all."""
    return msgspec.structs.replace(
        timing,
        up_bytes_per_s=_least(timing.up_bytes_per_s, device.up_limit_bytes_per_s),
        down_bytes_per_s=_least(timing.down_bytes_per_s, device.down_limit_bytes_per_s),
    )


def _least(*rates: float | None) -> float | None:
    return min((rate for rate in rates if rate is not None), default=None)


def _fixed(
    job: JobView,
    candidate: Candidate,
    history: Mapping[str, DeviceTiming],
    first: Mapping[str, Member],
) -> Member | None:
    device = candidate.device.id
    plan = first.get(device)
    if job.seed is None or plan is None or history.get(device, _UNTIMED).misses:
        return None
    return plan if still_fits(candidate.plan, plan) else None


def _deadline_s(
    job: JobView,
    cohort: Sequence[Candidate],
    history: Mapping[str, DeviceTiming],
    fixed: Mapping[str, Member],
) -> float:
    if job.deadline_s is not None:
        return job.deadline_s
    times = [
        predicted_s(job, one, history.get(one.device.id, _UNTIMED), fixed.get(one.device.id))
        for one in cohort
    ]
    timed = [time_s for time_s in times if time_s is not None]
    looks = any(one.plan.rung == FORWARD_ONLY for one in cohort)
    steps = max(job.steps, job.forward_in_steps) if looks else job.steps
    return auto_deadline_s(timed, steps=steps, untimed=len(times) - len(timed), fixed=bool(fixed))


def _evaluators(
    job: JobView,
    candidates: Sequence[Candidate],
    base_known: Collection[str],
    adapter_known: Collection[str],
    left_out: dict[str, str],
) -> list[Member]:
    members: list[Member] = []
    for one in candidates:
        variants = variants_of(one.device.id, base_known, adapter_known)
        if not variants:
            left_out[one.device.id] = "has evaluated this adapter already"
        elif len(members) == job.cohort_max:
            left_out[one.device.id] = f"{job.cohort_max} others evaluate already"
        else:
            members.append(assign_evaluation(one, _any_codec(job, one), variants=variants))
    return members


def _any_codec(job: JobView, candidate: Candidate) -> str:
    """An evaluator sends no update, but its offer has the field."""
    common = sorted(set(job.codecs) & set(candidate.device.codecs))
    return common[0] if common else "raw"


def _waiting(can: int, need: int, evaluators: int, left_out: Mapping[str, str]) -> str:
    text = f"{can} of {need} training devices are there"
    if evaluators:
        text += f"; {evaluators} can only evaluate"
    for device, reason in sorted(left_out.items())[:5]:
        text += f"; {device}: {reason}"
    if len(left_out) > 5:
        text += f"; and {len(left_out) - 5} more"
    return text
