"""A round's plan."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.scheduling.contract import DeviceTiming, DeviceView, JobView
from hub.scheduling.schedule import CANDIDATE_VARIANTS, schedule, schedule_evaluation
from wire.messages import RungPlan

Make = Callable[..., Any]


def names(plan: Any) -> list[str]:
    return [one.device for one in plan.members]


def test_a_round_takes_trainers_and_evaluators_in_device_order(
    make_job: Make, make_device: Make
) -> None:
    devices = [
        make_device("c"),
        make_device("b", role="infer", rank=0),
        make_device("a", role="prompt", rank=0),
    ]
    plan = schedule(make_job(cohort_min=2), devices, {}, round_=1)
    assert [(one.device, one.kind) for one in plan.members] == [
        ("a", "train"),
        ("b", "evaluate"),
        ("c", "train"),
    ]
    assert (plan.waiting_reason, plan.min_updates) == (None, 2)
    assert plan.deadline_s == 420.0  # 120 + 10 * 30: nobody was timed


def test_too_few_trainers_wait_with_the_reason(make_job: Make, make_device: Make) -> None:
    devices = [
        make_device("a"),
        make_device("b", role="infer", rank=0),
        make_device("c", ready=False),
    ]
    plan = schedule(make_job(cohort_min=2), devices, {}, round_=1)
    assert plan.members == ()
    assert plan.waiting_reason == (
        "1 of 2 training devices are there; 1 can only evaluate; c: not connected"
    )


def test_an_empty_fleet_waits(make_job: Make) -> None:
    plan = schedule(make_job(), [], {}, round_=1, need=0)
    assert plan.waiting_reason == "0 of 1 training devices are there"


def test_a_second_attempt_needs_fewer_and_leaves_out_who_was_tried(
    make_job: Make, make_device: Make
) -> None:
    devices = [make_device(name) for name in "abc"]
    plan = schedule(make_job(cohort_min=3), devices, {}, round_=1, exclude=["a", "b"], need=1)
    assert names(plan) == ["c"]
    assert plan.min_updates == 1


def test_a_full_cohort_takes_turns(make_job: Make, make_device: Make) -> None:
    job = make_job(cohort_max=2)
    devices = [make_device(name) for name in "abcdef"]
    served: dict[str, int] = dict.fromkeys("abcdef", 0)
    for round_ in range(1, 7):
        history = {name: DeviceTiming(served=count) for name, count in served.items()}
        plan = schedule(job, devices, history, round_=round_)
        assert len(plan.members) == 2
        assert len(plan.left_out) == 4
        for one in plan.members:
            served[one.device] += 1
    assert set(served.values()) == {2}


def test_a_device_too_slow_for_one_step_gives_its_place_to_the_next(
    make_job: Make, make_device: Make
) -> None:
    history = {
        "slow": DeviceTiming(seconds_per_step=1000.0),
        "next": DeviceTiming(seconds_per_step=1.0, served=5),
    }
    devices = [make_device("slow"), make_device("next")]
    plan = schedule(make_job(cohort_max=1, deadline_s=60.0), devices, history, round_=1)
    assert names(plan) == ["next"]
    assert plan.left_out["slow"].startswith("too slow")


def test_the_jobs_own_deadline_holds(make_job: Make, make_device: Make) -> None:
    history = {"a": DeviceTiming(seconds_per_step=100.0)}
    plan = schedule(make_job(deadline_s=200.0), [make_device("a")], history, round_=1)
    assert plan.deadline_s == 200.0
    assert plan.members[0].steps == 1  # 180 s / 100 s


def test_the_deadline_follows_the_median_of_the_cohort(make_job: Make, make_device: Make) -> None:
    history = {
        "a": DeviceTiming(seconds_per_step=2.0),  # 20 s
        "b": DeviceTiming(seconds_per_step=4.0),  # 40 s
        "c": DeviceTiming(seconds_per_step=12.0),  # 120 s
    }
    plan = schedule(make_job(), [make_device(name) for name in "abc"], history, round_=2)
    assert plan.deadline_s == 80.0
    assert [one.steps for one in plan.members] == [10, 10, 6]  # 72 s / 12 s


def test_the_first_deadline_leaves_time_to_train_without_backprop(
    make_job: Make, make_device: Make
) -> None:
    looks = make_device("f", role="infer", rung="forward-only", rank=2)
    job = make_job(forward_steps=140, forward_in_steps=402)
    assert schedule(job, [make_device("a")], {}, round_=1).deadline_s == 420.0  # 120 + 10 * 30
    both = schedule(job, [make_device("a"), looks], {}, round_=1)
    assert both.deadline_s == 12_180.0  # 120 + 402 * 30
    less = make_job(forward_steps=1, forward_in_steps=1)
    assert schedule(less, [looks], {}, round_=1).deadline_s == 420.0
    history = {"f": DeviceTiming(seconds_per_step=0.5)}
    assert schedule(job, [looks], history, round_=2).deadline_s == 140.0  # twice 140 * 0.5


def test_min_updates_is_the_jobs_but_at_most_the_trainers(
    make_job: Make, make_device: Make
) -> None:
    devices = [make_device("a"), make_device("b")]
    assert schedule(make_job(min_updates=5), devices, {}, round_=1).min_updates == 2
    assert schedule(make_job(min_updates=1), devices, {}, round_=1).min_updates == 1
    assert schedule(make_job(), devices, {}, round_=1).min_updates == 1  # cohort_min


def test_a_seeded_job_repeats_each_devices_first_work(make_job: Make, make_device: Make) -> None:
    job, device = make_job(seed=7), make_device("a")
    (first,) = schedule(make_job(codec="bf16"), [device], {}, round_=1).members
    history = {"a": DeviceTiming(seconds_per_step=9.0, up_bytes_per_s=10_000.0)}
    again = schedule(job, [device], history, round_=2, first={"a": first})
    assert [(one.steps, one.codec, one.rank) for one in again.members] == [(10, "bf16", 8)]
    free = schedule(make_job(), [device], history, round_=2, first={"a": first}).members[0]
    assert free.codec == "entropy"


def test_a_seeded_device_is_free_again_after_a_miss_or_a_smaller_rung(
    make_job: Make, make_device: Make
) -> None:
    job = make_job(seed=7, deadline_s=100.0)
    (first,) = schedule(job, [make_device("a")], {}, round_=1).members
    missed = {"a": DeviceTiming(misses=1)}
    (member,) = schedule(job, [make_device("a")], missed, round_=2, first={"a": first}).members
    assert member.steps == 5
    smaller = make_device("a", rank=4)
    (member,) = schedule(job, [smaller], {}, round_=2, first={"a": first}).members
    assert (member.rank, "seeded" in member.reason) == (4, False)


def test_evaluators_are_bounded_by_the_cohort_too(make_job: Make, make_device: Make) -> None:
    devices = [make_device("a"), *(make_device(f"e{i}", role="infer") for i in range(5))]
    plan = schedule(make_job(cohort_max=2), devices, {}, round_=1)
    assert sum(one.kind == "evaluate" for one in plan.members) == 2
    assert sum(reason == "2 others evaluate already" for reason in plan.left_out.values()) == 3


def test_whose_base_loss_is_known_measures_the_adapter_alone(
    make_job: Make, make_device: Make
) -> None:
    devices = [make_device("a"), make_device("b"), make_device("e", role="infer")]
    plan = schedule(make_job(), devices, {}, round_=2, base_known={"a"})
    assert {one.device: one.variants for one in plan.members} == {
        "a": ("adapter",),
        "b": ("base", "adapter"),
        "e": ("base", "adapter"),
    }


def test_everyone_who_can_infer_joins_the_final_evaluation(
    make_job: Make, make_device: Make
) -> None:
    devices = [
        make_device("b"),
        make_device("a", role="infer", rank=0),
        make_device("c", role="none", fits=False),
        make_device("d", ready=False),
    ]
    members = schedule_evaluation(make_job(cohort_max=1), devices)
    assert [(one.device, one.kind) for one in members] == [("a", "evaluate"), ("b", "evaluate")]
    assert members[0].variants == ("base", "adapter", "without_prompt")
    candidate = schedule_evaluation(make_job(cohort_max=1), devices, CANDIDATE_VARIANTS)
    assert [one.variants for one in candidate] == [("adapter",)] * 2


def test_a_device_that_has_measured_everything_only_trains(
    make_job: Make, make_device: Make
) -> None:
    devices = [make_device("a"), make_device("b"), make_device("e", role="infer", rank=0)]
    known = {"base_known": "abe", "adapter_known": "ae"}
    plan = schedule(make_job(cohort_min=2), devices, {}, round_=2, **known)
    assert [(one.device, one.variants) for one in plan.members] == [("a", ()), ("b", ("adapter",))]
    assert plan.left_out == {"e": "has evaluated this adapter already"}


seconds = st.one_of(st.none(), st.floats(0, 1e6))
timings = st.builds(
    DeviceTiming,
    seconds_per_step=seconds,
    load_s=st.floats(0, 1e4),
    up_bytes_per_s=st.one_of(st.none(), st.floats(0, 1e9)),
    down_bytes_per_s=st.one_of(st.none(), st.floats(0, 1e9)),
    served=st.integers(0, 5),
    misses=st.integers(0, 5),
)
plans = st.builds(
    RungPlan,
    role=st.sampled_from(["lora", "prompt", "infer", "none"]),
    rung=st.just("streamed"),
    rank=st.integers(1, 32),
    batch=st.integers(1, 4),
    seq_len=st.just(64),
    predicted_peak_bytes=st.just(10**8),
    fits=st.booleans(),
)
fleets = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(
        st.one_of(st.none(), plans),
        st.sets(st.sampled_from(["raw", "bf16", "int8", "zip"])),
        st.booleans(),
        timings,
    ),
)


@given(fleets, st.integers(1, 4), st.integers(0, 4), st.sampled_from([None, 7]))
def test_any_fleet_gets_a_sound_plan_or_a_reason(
    fleet: dict[str, Any], least: int, more: int, seed: int | None
) -> None:
    job = JobView(
        job="j",
        rounds=3,
        cohort_min=least,
        cohort_max=least + more,
        steps=10,
        rank=16,
        codecs={"raw": 32.0, "bf16": 16.0, "int8": 8.5},
        seed=seed,
        lora_parameters_per_rank=10_000,
        prompt_parameters=100,
        adapter_bytes=100_000,
    )
    devices = [
        DeviceView(id=name, plan=plan, codecs=tuple(codecs), ready=ready)
        for name, (plan, codecs, ready, _) in fleet.items()
    ]
    history = {name: timing for name, (_, _, _, timing) in fleet.items()}
    plan = schedule(job, devices, history, round_=1)
    assert plan == schedule(job, devices[::-1], history, round_=1)
    members = {one.device: one for one in plan.members}
    if plan.waiting_reason is not None:
        assert members == {}
        return
    assert not set(members) & set(plan.left_out)
    assert set(members) | set(plan.left_out) == set(fleet)
    trainers = [one for one in plan.members if one.kind == "train"]
    assert least <= len(trainers) <= least + more
    assert 1 <= plan.min_updates <= len(trainers)
    assert 30 <= plan.deadline_s <= 86_400
    for one in trainers:
        assert 1 <= one.steps <= 10
        assert one.rank <= 16
        assert one.reason
        assert one.codec in fleet[one.device][1] & set(job.codecs)
    msgspec.json.encode(plan)


def test_what_a_devices_user_allows_counts_as_its_link(make_job: Make, make_device: Make) -> None:
    """800,000 numbers of 1.25 bits are 125 kB: 100 s at 10 kbit/s (1250 bytes a second). Of 90 %
    of 200 s that leaves 80 s, 8 steps of 10 s; the link itself was never measured."""
    timed = {"a": DeviceTiming(seconds_per_step=10.0)}
    job = make_job(deadline_s=200.0)
    free = schedule(job, [make_device("a")], timed, round_=1)
    limited = schedule(job, [make_device("a", up_limit_bytes_per_s=1250.0)], timed, round_=1)
    assert [free.members[0].steps, limited.members[0].steps] == [10, 8]


def test_a_limit_above_the_measured_rate_changes_nothing(make_job: Make, make_device: Make) -> None:
    timed = DeviceTiming(seconds_per_step=1.0, up_bytes_per_s=1000.0, down_bytes_per_s=1000.0)
    device = make_device("a")
    wide = make_device("a", up_limit_bytes_per_s=2000.0, down_limit_bytes_per_s=2000.0)
    assert schedule(make_job(), [device], {"a": timed}, round_=1) == schedule(
        make_job(), [wide], {"a": timed}, round_=1
    )


def test_a_slow_download_makes_the_deadline_longer(make_job: Make, make_device: Make) -> None:
    """60 s for 10 steps; 3 MB at 31,250 bytes a second take 96 s. Twice the median of that."""
    timed = DeviceTiming(seconds_per_step=6.0)
    job = make_job(adapter_bytes=3_000_000)
    device = make_device("a", down_limit_bytes_per_s=31_250.0)
    assert schedule(job, [make_device("a")], {"a": timed}, round_=1).deadline_s == 120.0
    assert schedule(job, [device], {"a": timed}, round_=1).deadline_s == 312.0
