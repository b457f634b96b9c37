"""One device's work in a round: steps, rank and codec, with the reason in words."""

from collections.abc import Collection

from hub.scheduling.candidates import Candidate
from hub.scheduling.codec_choice import choose_codec, update_bytes
from hub.scheduling.contract import (
    FORWARD_ONLY,
    DeviceTiming,
    DeviceView,
    JobView,
    Member,
    Variant,
)
from hub.scheduling.deadline import fitting_steps
from wire.messages.plan import RungPlan

#: A step without backprop travels as float16 (`wire.forward_only`), whatever the job's codec.
_STEP_BYTES = 2
_STEPS_CODEC = "raw"


def still_fits(plan: RungPlan, first: Member) -> bool:
    """Return whether a device can repeat its first round's work under its present plan."""
    return (
        plan.role == first.role
        and (plan.rung == FORWARD_ONLY) == (first.rung == FORWARD_ONLY)
        and plan.rank >= first.rank
        and plan.batch >= first.batch
        and plan.seq_len >= first.seq_len
    )


def predicted_s(
    job: JobView, candidate: Candidate, timing: DeviceTiming, fixed: Member | None
) -> float | None:
    """Return how long a device needs for the round's full work; None: it was never timed."""
    if timing.seconds_per_step is None:
        return None
    plan = candidate.plan
    rank = fixed.rank if fixed else min(plan.rank, job.rank)
    steps = fixed.steps if fixed else _wanted(job, plan)
    if plan.rung == FORWARD_ONLY:
        size_bytes = _STEP_BYTES * steps
        return overhead_s(job, timing, size_bytes) + steps * timing.seconds_per_step
    parameters = _parameters(job, plan, rank)
    codec, _ = choose_codec(
        fixed.codec if fixed else job.codec,
        hub=job.codecs,
        device=candidate.device.codecs,
        parameters=parameters,
        biased=job.biased,
    )
    size_bytes = update_bytes(parameters, job.codecs[codec]) if codec else 0
    return overhead_s(job, timing, size_bytes) + steps * timing.seconds_per_step


def overhead_s(job: JobView, timing: DeviceTiming, up_bytes: int) -> float:
    """Return the seconds that loading, download and upload take; an unknown link takes none."""
    seconds = timing.load_s
    if timing.down_bytes_per_s:
        seconds += job.adapter_bytes / timing.down_bytes_per_s
    if timing.up_bytes_per_s:
        seconds += up_bytes / timing.up_bytes_per_s
    return seconds


def assign_training(
    job: JobView,
    candidate: Candidate,
    timing: DeviceTiming,
    *,
    deadline_s: float,
    fixed: Member | None,
    variants: tuple[Variant, ...],
) -> Member | str:
    """Return the device's work, or why it must be left out.

    Args:
        fixed: the device's first work in a seeded job, which it repeats.
        variants: what it evaluates first.
    """
    device, plan = candidate.device, candidate.plan
    forward = plan.rung == FORWARD_ONLY
    ranked = plan.role == "lora" or forward
    rank = 0 if not ranked else fixed.rank if fixed else min(plan.rank, job.rank)
    parameters = _parameters(job, plan, rank)
    codec: str | None
    if forward:
        codec, why_codec = _STEPS_CODEC, "its steps alone travel"
    else:
        codec, why_codec = choose_codec(
            fixed.codec if fixed and fixed.codec in device.codecs else job.codec,
            hub=job.codecs,
            device=device.codecs,
            parameters=parameters,
            biased=job.biased,
        )
    if codec is None:
        return why_codec
    wanted = _wanted(job, plan)
    up_bytes = _STEP_BYTES * wanted if forward else update_bytes(parameters, job.codecs[codec])
    steps, why_steps = _steps(wanted, timing, deadline_s, overhead_s(job, timing, up_bytes), fixed)
    if steps == 0:
        return why_steps
    if fixed and codec == fixed.codec and not forward:
        why_codec = f"codec {codec}: as in its first round (seeded)"
    return Member(
        device=device.id,
        kind="train",
        role=plan.role,
        rung=plan.rung,
        rank=rank,
        steps=steps,
        batch=fixed.batch if fixed else plan.batch,
        seq_len=fixed.seq_len if fixed else plan.seq_len,
        codec=codec,
        variants=variants,
        reason=f"{_memory(device, plan, rank)}; {why_steps}; {why_codec}",
    )


def assign_evaluation(candidate: Candidate, codec: str, *, variants: tuple[Variant, ...]) -> Member:
    """Return the part of a device that evaluates the adapter on its own held-out text."""
    device, plan = candidate.device, candidate.plan
    return Member(
        device=device.id,
        kind="evaluate",
        role=plan.role,
        rung=plan.rung,
        rank=plan.rank if plan.role == "lora" else 0,
        steps=0,
        batch=plan.batch,
        seq_len=plan.seq_len,
        codec=codec,
        variants=variants,
        reason=f"{_memory(device, plan, plan.rank)}; evaluates {', '.join(variants)}",
    )


def variants_of(
    device: str, base_known: Collection[str], adapter_known: Collection[str]
) -> tuple[Variant, ...]:
    """Return what a device evaluates in a round: what it hasn't reported, as that never changes.

    Args:
        device: its id.
        base_known: devices that reported their loss of the bare base.
        adapter_known: devices that reported their loss of the adapter with which the round begins.
    """
    base: tuple[Variant, ...] = () if device in base_known else ("base",)
    return base if device in adapter_known else (*base, "adapter")


def _steps(
    full: int,
    timing: DeviceTiming,
    deadline_s: float,
    spent_s: float,
    fixed: Member | None,
) -> tuple[int, str]:
    seconds = timing.seconds_per_step
    if fixed:
        return fixed.steps, f"{_count(fixed.steps)}: as in its first round (seeded)"
    # After a missed round the prediction can't be trusted: half as many, for each miss in a row.
    wanted = max(1, full >> min(timing.misses, 30))
    missed = f" (fewer than {full}: missed {timing.misses} in a row)" if timing.misses else ""
    if seconds is None:
        return wanted, f"{_count(wanted)}{missed}: never timed"
    steps = fitting_steps(deadline_s, steps=wanted, seconds_per_step=seconds, overhead_s=spent_s)
    if steps == 0:
        return 0, (
            f"too slow: {spent_s:.0f} s for loading and the link and {seconds:.1f} s for one step "
            f"don't fit into 90 % of the {deadline_s:.0f} s"
        )
    left_s = deadline_s - spent_s - steps * seconds
    less = f" (of {wanted})" if steps < wanted else ""
    return steps, (
        f"{_count(steps)}{less}{missed}: {seconds:.2f} s a step, "
        f"ends {left_s:.0f} s before the deadline"
    )


def _wanted(job: JobView, plan: RungPlan) -> int:
    """Return the steps of a round's full work."""
    return job.forward_steps if plan.rung == FORWARD_ONLY else job.steps


def _parameters(job: JobView, plan: RungPlan, rank: int) -> int:
    if plan.role == "lora" and (job.cores_alone or plan.rung == "core"):
        return job.matrices * rank**2
    if plan.role == "lora":
        return job.lora_parameters_per_rank * rank
    if plan.role == "full":
        return job.full_parameters
    return job.prompt_parameters


def _memory(device: DeviceView, plan: RungPlan, rank: int) -> str:
    what = f"{plan.role} r={rank}" if rank and plan.role in ("lora", "infer") else plan.role
    peak = f"{plan.predicted_peak_bytes / 1e6:.0f} MB"
    limit = f" of {device.memory_limit_bytes / 1e6:.0f} MB" if device.memory_limit_bytes else ""
    return f"{what} ({plan.rung}): {peak}{limit}"


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
