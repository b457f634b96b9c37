"""What a local task has come to, for a script and for a person."""

import msgspec
import pytest

from edge_agent.train_report import TrainReport, typical

REPORT = TrainReport(
    role="lora",
    rung="streamed",
    rank=8,
    batch=1,
    seq_len=256,
    steps=3,
    loss=[3.0, 2.5, 2.25],
    seconds_per_step=0.5,
    tokens_per_second=510.0,
    limit_bytes=700_000_000,
    predicted_peak_bytes=420_000_000,
    measured_peak_bytes=400_000_000,
    worker_peak_bytes=370_000_000,
    adapter="out",
    held_out_before=3.25,
    held_out_after=2.5,
    out_of_memory=[],
)


def test_a_step_takes_the_median_of_all_but_the_first() -> None:
    assert typical([100.0, 1.0, 4.0, 2.0]) == 2.0
    assert typical([100.0, 1.0, 2.0]) == 1.5


def test_a_single_step_is_what_there_is() -> None:
    assert typical([100.0]) == 100.0


def test_a_training_that_had_no_step_left_has_no_time() -> None:
    assert typical([]) is None


def test_the_lines_tell_losses_speed_memory_and_place() -> None:
    said = "\n".join(REPORT.told())
    assert "3 steps, loss 3.0000 to 2.2500, held-out 3.2500 to 2.5000" in said
    assert "510 tokens/s, 0.5 s a step" in said
    assert "peak memory 400 MB, predicted 420 MB (+5.0%)" in said
    assert "adapter: out" in said


@pytest.mark.parametrize("field", ["held_out_before", "held_out_after"])
def test_without_held_out_text_nothing_is_said_of_it(field: str) -> None:
    report = msgspec.structs.replace(REPORT, **{field: None})
    assert "held-out" not in "\n".join(report.told())
