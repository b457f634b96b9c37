"""One device's work, and the reason for it."""

from collections.abc import Callable
from typing import Any

from hub.scheduling.assignment import (
    assign_evaluation,
    assign_training,
    overhead_s,
    predicted_s,
    variants_of,
)
from hub.scheduling.candidates import Candidate
from hub.scheduling.contract import DeviceTiming, Member

Make = Callable[..., Any]
UNTIMED = DeviceTiming()


def assign(job: Any, device: Any, timing: DeviceTiming = UNTIMED, **changes: Any) -> Any:
    values: dict[str, Any] = {"deadline_s": 100.0, "fixed": None, "variants": ("adapter",)}
    return assign_training(job, Candidate(device, device.plan), timing, **{**values, **changes})


def test_the_reason_tells_memory_steps_and_codec(make_job: Make, make_device: Make) -> None:
    timing = DeviceTiming(seconds_per_step=0.5, load_s=4.0)
    assert assign(make_job(), make_device("a"), timing).reason == (
        "lora r=8 (streamed): 612 MB of 750 MB; "
        "10 steps: 0.50 s a step, ends 91 s before the deadline; codec entropy: 800000 numbers"
    )


def test_an_untimed_device_gets_all_steps(make_job: Make, make_device: Make) -> None:
    member = assign(make_job(), make_device("a"))
    assert member.steps == 10
    assert "10 steps: never timed" in member.reason


def test_a_slow_device_gets_fewer_steps(make_job: Make, make_device: Make) -> None:
    # 8 * 100,000 numbers of 1.25 bits are 125 kB, 1.25 s at 100 kB/s. 0.9 * 100 s - 10 s of
    # loading - 1.25 s leave 78.75 s: 5 steps of 15 s, which end after 86.25 s.
    timing = DeviceTiming(seconds_per_step=15.0, load_s=10.0, up_bytes_per_s=100_000.0)
    member = assign(make_job(), make_device("a"), timing)
    assert (member.steps, member.codec) == (5, "entropy")
    assert "5 steps (of 10): 15.00 s a step, ends 14 s before the deadline" in member.reason


def test_a_device_is_left_out_only_if_not_one_step_fits(make_job: Make, make_device: Make) -> None:
    job, device = make_job(), make_device("a")
    assert assign(job, device, DeviceTiming(seconds_per_step=90.0)).steps == 1
    reason = assign(job, device, DeviceTiming(seconds_per_step=91.0))
    assert reason.startswith("too slow: 0 s for loading and the link and 91.0 s for one step")


def test_each_miss_in_a_row_halves_the_steps(make_job: Make, make_device: Make) -> None:
    steps = [
        assign(make_job(), make_device("a"), DeviceTiming(misses=misses)).steps
        for misses in (0, 1, 2, 3, 4, 1000)
    ]
    assert steps == [10, 5, 2, 1, 1, 1]


def test_the_download_of_the_adapter_counts(make_job: Make, make_device: Make) -> None:
    timing = DeviceTiming(
        seconds_per_step=1.0, load_s=5.0, up_bytes_per_s=1000.0, down_bytes_per_s=2000.0
    )
    assert overhead_s(make_job(adapter_bytes=8000), timing, 3000) == 5.0 + 4.0 + 3.0


def test_the_predicted_time_is_for_the_full_work_in_the_codec_that_is_chosen(
    make_job: Make, make_device: Make
) -> None:
    device = make_device("a")
    timing = DeviceTiming(seconds_per_step=2.0, load_s=1.0, up_bytes_per_s=160_000.0)
    candidate = Candidate(device, device.plan)
    # 800,000 numbers in 125 kB: 0.78125 s; 1 s; 10 steps of 2 s
    assert predicted_s(make_job(), candidate, timing, None) == 21.78125
    assert predicted_s(make_job(), candidate, DeviceTiming(), None) is None


def test_rank_is_at_most_the_jobs_and_nothing_for_prompts(
    make_job: Make, make_device: Make
) -> None:
    assert assign(make_job(rank=4), make_device("a", rank=8)).rank == 4
    prompt = assign(make_job(), make_device("b", role="prompt", rank=0))
    assert (prompt.rank, prompt.codec) == (0, "int8")  # 1,000 numbers are few
    assert prompt.reason.startswith("prompt (streamed): 612 MB of 750 MB")


def test_a_device_measures_what_it_has_not_reported() -> None:
    assert variants_of("a", [], []) == ("base", "adapter")
    assert variants_of("a", ["a"], ["b"]) == ("adapter",)
    assert variants_of("a", ["b"], ["a"]) == ("base",)
    assert variants_of("a", ["a"], ["a"]) == ()


def test_fixed_work_is_repeated_whatever_the_times_say(make_job: Make, make_device: Make) -> None:
    first = Member(
        device="a",
        kind="train",
        role="lora",
        rung="resident",
        rank=4,
        steps=7,
        batch=2,
        seq_len=64,
        codec="int8",
    )
    timing = DeviceTiming(seconds_per_step=50.0)
    member = assign(make_job(), make_device("a"), timing, fixed=first)
    assert (member.rank, member.steps, member.batch, member.seq_len, member.codec) == (
        4, 7, 2, 64, "int8",
    )  # fmt: skip
    assert member.rung == "streamed"
    assert "7 steps: as in its first round (seeded)" in member.reason


def test_an_evaluator_trains_nothing(make_device: Make) -> None:
    device = make_device("e", role="infer", rank=0)
    member = assign_evaluation(Candidate(device, device.plan), "raw", variants=("adapter",))
    assert (member.kind, member.steps, member.variants) == ("evaluate", 0, ("adapter",))
    assert member.reason == "infer (streamed): 612 MB of 750 MB; evaluates adapter"


def test_cores_are_few_numbers(make_job: Make, make_device: Make) -> None:
    # 4 matrices of 8 × 8: 256 numbers, on a rung of cores or where the rule asks all for them.
    tiny = assign(make_job(matrices=4), make_device("a", rung="core"))
    asked = assign(make_job(matrices=4, cores_alone=True), make_device("a"))
    assert [one.codec for one in (tiny, asked)] == ["int8", "int8"]
    assert "256 numbers are few" in tiny.reason
    assert assign(make_job(matrices=4), make_device("a")).codec == "entropy"


def test_without_backprop_steps_are_the_jobs_own_and_travel_alone(
    make_job: Make, make_device: Make
) -> None:
    device = make_device("f", role="infer", rung="forward-only", rank=2)
    timing = DeviceTiming(seconds_per_step=0.5, load_s=4.0)
    member = assign(make_job(forward_steps=140), device, timing)
    assert (member.kind, member.role, member.rung) == ("train", "infer", "forward-only")
    assert (member.rank, member.steps, member.codec) == (2, 140, "raw")
    assert member.reason == (
        "infer r=2 (forward-only): 612 MB of 750 MB; "
        "140 steps: 0.50 s a step, ends 26 s before the deadline; its steps alone travel"
    )
    # 0.9 * 40 s - 4 s are 32 s of half a second each.
    assert assign(make_job(forward_steps=140), device, timing, deadline_s=40.0).steps == 64


def test_the_time_of_looking_counts_for_the_deadline(make_job: Make, make_device: Make) -> None:
    device = make_device("f", role="infer", rung="forward-only", rank=2)
    timing = DeviceTiming(seconds_per_step=0.5, load_s=4.0, up_bytes_per_s=28.0)
    found = predicted_s(make_job(forward_steps=140), Candidate(device, device.plan), timing, None)
    assert found == 4.0 + 10.0 + 70.0  # 2 bytes a step
