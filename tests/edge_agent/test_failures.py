"""What ran out of memory is not tried again, unless there is more memory or another version."""

from pathlib import Path

import pytest

from edge_agent import failures
from edge_agent.failures import Failures
from wire.messages import RungPlan

LIMIT = 1_000


def line(
    rung: str, peak: int, *, fits: bool = True, role: str = "lora", derived: str = ""
) -> RungPlan:
    return RungPlan(
        role=role,  # type: ignore[arg-type]
        rung=rung,
        rank=8,
        batch=1,
        seq_len=256,
        predicted_peak_bytes=peak,
        fits=fits,
        derived=derived,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "failures.json"


def test_a_line_must_be_predicted_to_take_less_than_the_least_that_failed(file: Path) -> None:
    failed = Failures(file, LIMIT)
    assert failed.limit_of("notes") == 1_000
    failed.add("notes", line("resident", 900))
    assert failed.limit_of("notes") == 899
    failed.add("notes", line("resident", 950))  # a higher line tells nothing new
    assert failed.limit_of("notes") == 899
    failed.add("notes", line("resident", 700))
    assert (failed.limit_of("notes"), failed.limit_of("other")) == (699, 1_000)


def judged(failed: Failures, *lines: RungPlan) -> list[bool]:
    return [line.fits for line in failed.judge("notes", list(lines))]


def test_smaller_sizes_of_a_rung_that_failed_come_after_every_other_rung(file: Path) -> None:
    failed = Failures(file, LIMIT)
    ladder = [
        line("resident", 900, fits=False),
        line("resident", 700),
        line("streamed", 500),
        line("streamed", 400),
        line("infer", 300, role="infer"),
    ]
    assert judged(failed, *ladder) == [False, True, True, True, True]
    failed.add("notes", ladder[0])
    assert judged(failed, *ladder) == [False, False, True, True, True]
    assert judged(failed, *ladder[:2], ladder[4]) == [False, True, True]  # no other rung trains
    failed.add("notes", ladder[2])
    assert judged(failed, *ladder) == [False, True, True, True, True]


def test_evaluation_is_no_other_rung_of_training_without_backprop(file: Path) -> None:
    failed = Failures(file, LIMIT)
    ladder = [
        line("forward-only", 900, fits=False, role="infer"),
        line("forward-only", 700, role="infer"),
        line("infer", 500, role="infer"),
        line("infer", 400, role="infer"),
    ]
    failed.add("notes", ladder[0])
    assert judged(failed, *ladder) == [False, True, True, True]
    failed.add("notes", ladder[2])  # nor is training one of evaluation
    assert judged(failed, *ladder) == [False, True, True, True]


def test_the_same_rung_on_another_file_is_another_one(file: Path) -> None:
    failed = Failures(file, LIMIT)
    large = line("forward-only", 900, role="infer", derived="gguf-q8_0")
    small = line("forward-only", 700, role="infer", derived="gguf-q4_0")
    failed.add("notes", large)
    assert judged(failed, large, small) == [False, True]
    failed.add("notes", small)
    assert judged(failed, large, small) == [True, True]  # `limit_of` alone decides


def test_it_outlives_the_agent(file: Path) -> None:
    Failures(file, LIMIT).add("notes", line("resident", 900))
    assert Failures(file, LIMIT).limit_of("notes") == 899
    assert Failures(file, LIMIT - 500).limit_of("notes") == 500  # less memory: no reason to hope


def test_more_memory_or_another_version_is_a_new_chance(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failures(file, LIMIT).add("notes", line("resident", 900))
    assert Failures(file, LIMIT + 1).limit_of("notes") == 1_001
    monkeypatch.setattr(failures, "LORIKEET_VERSION", "another")
    assert Failures(file, LIMIT).limit_of("notes") == 1_000


def test_only_so_many_jobs_are_remembered(file: Path) -> None:
    failed = Failures(file, LIMIT)
    for number in range(70):
        failed.add(f"job-{number}", line("resident", 900))
    again = Failures(file, LIMIT)
    assert [again.limit_of(f"job-{n}") for n in (0, 5, 6, 69)] == [1_000, 1_000, 899, 899]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"limit_bytes": "much"}'])
def test_a_broken_file_counts_as_empty(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(content)
    assert Failures(file, LIMIT).limit_of("notes") == 1_000
    assert "passed over" in caplog.text
