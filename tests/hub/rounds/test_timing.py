"""Medians of what a job's devices measured, from its state alone."""

from hub.rounds.state import JobState, MemberState, RoundRecord, Update
from hub.rounds.timing import base_known, first_plans, timings
from hub.scheduling.contract import Member
from wire.messages import Evaluation, TrainMetrics


def member(steps: int = 10, kind: str = "train") -> Member:
    return Member(
        device="a", kind=kind, role="lora", rung="resident", rank=4, steps=steps, batch=1,
        seq_len=32, codec="raw",
    )  # type: ignore[arg-type]  # fmt: skip


def update(round_: int, seconds: float, size_bytes: int = 100_000) -> Update:
    return Update(
        device="a",
        round=round_,
        start="s",
        sha256="u",
        size_bytes=size_bytes,
        role="lora",
        rank=4,
        tokens=10,
        train=TrainMetrics(
            steps=10, tokens=10, loss_first=2, loss_last=1, seconds_per_step=seconds, load_s=3
        ),
        download_s=4.0,
        upload_s=2.0,
        peak_bytes=1,
    )


def record(round_: int, state: str, accepted: Update | None = None) -> RoundRecord:
    return RoundRecord(
        round=round_,
        start="s",
        members={"a": MemberState(member=member(steps=10 + round_), attempt=1, state=state)},  # type: ignore[arg-type]
        accepted={"a": accepted} if accepted else {},
    )


def test_rates_and_times_are_medians() -> None:
    state = JobState(
        records=tuple(
            record(r, "delivered", update(r, seconds))
            for r, seconds in ((1, 0.5), (2, 0.1), (3, 9.0))
        )
    )
    timing = timings(state, adapter_bytes=200_000)["a"]
    assert timing.seconds_per_step == 0.5
    assert timing.load_s == 3
    assert timing.up_bytes_per_s == 50_000  # 100,000 bytes in 2 s
    assert timing.down_bytes_per_s == 50_000  # 200,000 bytes in 4 s
    assert timing.served == 3


def test_only_the_last_five_updates_count() -> None:
    seconds = [100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    state = JobState(
        records=tuple(record(r, "delivered", update(r, s)) for r, s in enumerate(seconds, start=1))
    )
    assert timings(state, 0)["a"].seconds_per_step == 3.0


def test_small_transfers_say_nothing_about_a_link() -> None:
    state = JobState(records=(record(1, "delivered", update(1, 1.0, size_bytes=500)),))
    timing = timings(state, adapter_bytes=500)["a"]
    assert timing.up_bytes_per_s is None
    assert timing.down_bytes_per_s is None


def test_an_update_clears_the_misses() -> None:
    missed = (record(1, "missed"), record(2, "missed"))
    assert timings(JobState(records=missed), 0)["a"].misses == 2
    served = (*missed, record(3, "delivered", update(3, 1.0)))
    assert timings(JobState(records=served), 0)["a"].misses == 0


def test_the_first_plan_of_a_device_is_remembered() -> None:
    state = JobState(records=(record(1, "missed"), record(2, "delivered", update(2, 1.0))))
    assert first_plans(state)["a"].steps == 11


def test_a_device_that_measured_the_base_is_known() -> None:
    losses = {"a": {"base": Evaluation(variant="base", loss=2.0, tokens=10)}, "b": {}}
    state = JobState(records=(record(1, "offered").change(losses=losses),))
    assert base_known(state) == {"a"}
