"""Medians of what devices measured."""

import msgspec

from hub.rounds.timing import Timings
from wire.messages import Result, TrainMetrics

RESULT = Result(
    id="1",
    session="s",
    task="t",
    job="j",
    round=1,
    status="done",
    train=TrainMetrics(
        steps=10, tokens=1000, loss_first=2, loss_last=1, seconds_per_step=0.5, load_s=3
    ),
    upload_bytes=100_000,
    upload_s=2.0,
    download_s=4.0,
)


def test_rates_and_times_are_medians() -> None:
    timings = Timings()
    for seconds in (0.5, 0.1, 9.0):
        train = msgspec.structs.replace(RESULT.train, seconds_per_step=seconds)
        timings.note_result("a", msgspec.structs.replace(RESULT, train=train), 200_000)
    timing = timings.all()["a"]
    assert timing.seconds_per_step == 0.5
    assert timing.load_s == 3
    assert timing.up_bytes_per_s == 50_000
    assert timing.down_bytes_per_s == 50_000


def test_small_transfers_say_nothing_about_a_link() -> None:
    timings = Timings()
    timings.note_result("a", msgspec.structs.replace(RESULT, upload_bytes=500), 500)
    timing = timings.all()["a"]
    assert timing.up_bytes_per_s is None
    assert timing.down_bytes_per_s is None


def test_a_result_clears_the_misses() -> None:
    timings = Timings()
    timings.note_member("a")
    timings.note_miss("a")
    timings.note_miss("a")
    assert timings.all()["a"].misses == 2
    timings.note_result("a", RESULT, 0)
    assert timings.all()["a"].misses == 0
    assert timings.all()["a"].served == 1
