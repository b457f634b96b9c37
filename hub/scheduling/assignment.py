"""One device's work in a round: steps, rank and codec, with the reason in words."""

from collections.abc import Collection

from hub.scheduling.candidates import Candidate
from hub.scheduling.codec_choice import choose_codec, update_bytes
from hub.scheduling.contract import DeviceTiming, DeviceView, JobView, Member, Variant
from hub.scheduling.deadline import fitting_steps
from wire.messages.plan import RungPlan


def still_fits(plan: RungPlan, first: Member) -> bool:
    """Return whether a device can repeat its first round's work under its present plan."""
    return (
        plan.role == first.role
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
    parameters = _parameters(job, plan, rank)
    codec, _ = choose_codec(
        fixed.codec if fixed else job.codec,
        hub=job.codecs,
        device=candidate.device.codecs,
        parameters=parameters,
        biased=job.biased,
    )
    steps = fixed.steps if fixed else job.steps
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
    rank = 0 if plan.role != "lora" else fixed.rank if fixed else min(plan.rank, job.rank)
    parameters = _parameters(job, plan, rank)
    codec, why_codec = choose_codec(
        fixed.codec if fixed and fixed.codec in device.codecs else job.codec,
        hub=job.codecs,
        device=device.codecs,
        parameters=parameters,
        biased=job.biased,
    )
    if codec is None:
        return why_codec
    up_bytes = update_bytes(parameters, job.codecs[codec])
    steps, why_steps = _steps(job, timing, deadline_s, up_bytes, fixed)
    if steps == 0:
        return why_steps
    if fixed and codec == fixed.codec:
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
    job: JobView,
    timing: DeviceTiming,
    deadline_s: float,
    up_bytes: int,
    fixed: Member | None,
) -> tuple[int, str]:
    seconds = timing.seconds_per_step
    spent_s = overhead_s(job, timing, up_bytes)
    if fixed:
        return fixed.steps, f"{_count(fixed.steps)}: as in its first round (seeded)"
    # After a missed round the prediction can't be trusted: half as many, for each miss in a row.
    wanted = max(1, job.steps >> min(timing.misses, 30))
    missed = f" (fewer than {job.steps}: missed {timing.misses} in a row)" if timing.misses else ""
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


def _parameters(job: JobView, plan: RungPlan, rank: int) -> int:
    if plan.role == "lora" and (job.cores_alone or plan.rung == "core"):
        return job.matrices * rank**2
    if plan.role == "lora":
        return job.lora_parameters_per_rank * rank
    if plan.role == "full":
        return job.full_parameters
    return job.prompt_parameters


def _memory(device: DeviceView, plan: RungPlan, rank: int) -> str:
    what = f"{plan.role} r={rank}" if plan.role == "lora" else plan.role
    peak = f"{plan.predicted_peak_bytes / 1e6:.0f} MB"
    limit = f" of {device.memory_limit_bytes / 1e6:.0f} MB" if device.memory_limit_bytes else ""
    return f"{what} ({plan.rung}): {peak}{limit}"


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
