"""The line a local task begins with, and the one that follows when memory ran out."""

import pytest

from edge_agent.errors import UsageError
from edge_agent.train_rungs import (
    AUTO,
    NothingFitsError,
    first_line,
    line_below,
    why_not_above,
)
from wire.messages import RungPlan


def line(rung: str, peak: int, limit: int, rank: int = 8) -> RungPlan:
    return RungPlan(
        role="lora",
        rung=rung,
        rank=rank,
        batch=1,
        seq_len=64,
        predicted_peak_bytes=peak,
        fits=peak <= limit,
        missing_bytes=max(0, peak - limit),
        reason=f"{rung} {rank}",
    )


def ladder(limit: int) -> list[RungPlan]:
    return [
        line("resident", 900, limit, 8),
        line("resident", 850, limit, 4),
        line("checkpointed", 700, limit),
        line("streamed", 300, limit),
        line("core", 200, limit),
    ]


@pytest.mark.parametrize(
    ("limit", "rung", "rank"),
    [(1000, "resident", 8), (860, "resident", 4), (699, "streamed", 8), (200, "core", 8)],
)
def test_the_highest_line_that_fits_is_taken(limit: int, rung: str, rank: int) -> None:
    taken = first_line(ladder(limit), AUTO)
    assert (taken.rung, taken.rank) == (rung, rank)


def test_where_nothing_fits_the_bytes_that_are_missing_are_said() -> None:
    with pytest.raises(NothingFitsError, match=r"^50 bytes are missing for the least rung: core"):
        first_line(ladder(150), AUTO)


def test_a_rung_that_is_asked_for_is_taken_at_its_best_line_that_fits() -> None:
    assert first_line(ladder(860), "resident").rank == 4
    assert first_line(ladder(1000), "streamed").rung == "streamed"


def test_a_rung_that_is_asked_for_and_does_not_fit_is_taken_at_its_least_line() -> None:
    taken = first_line(ladder(500), "resident")
    assert (taken.rank, taken.missing_bytes) == (4, 350)


def test_a_rung_that_is_unknown_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"'warp'.*auto, resident, checkpointed, streamed, core"):
        first_line(ladder(500), "warp")


def test_after_a_failure_the_next_lower_rung_that_fits_is_taken() -> None:
    assert line_below(ladder(1000), ["resident"]).rung == "checkpointed"
    assert line_below(ladder(500), ["resident"]).rung == "streamed"
    assert line_below(ladder(1000), ["checkpointed", "streamed"]).rung == "core"


def test_a_rung_above_one_that_failed_is_never_taken() -> None:
    assert line_below(ladder(1000), ["streamed"]).rung == "core"


def test_below_the_last_rung_there_is_nothing() -> None:
    with pytest.raises(NothingFitsError, match="no lower rung"):
        line_below(ladder(1000), ["core"])


def test_below_a_rung_of_which_nothing_fits_the_missing_bytes_are_said() -> None:
    with pytest.raises(NothingFitsError, match=r"^40 bytes are missing"):
        line_below(ladder(160), ["resident"])


def test_for_each_rung_above_the_least_that_is_missing_is_told() -> None:
    lines = [
        line("resident", 5_000_000, 1_000_000, 8),
        line("resident", 4_000_000, 1_000_000, 4),
        line("checkpointed", 3_000_000, 1_000_000),
        line("streamed", 900_000, 1_000_000),
        line("core", 2_000_000, 1_000_000),
    ]
    assert why_not_above(lines, lines[3]) == [
        "not resident: 3 MB are missing",
        "not checkpointed: 2 MB are missing",
    ]


def test_a_rung_above_that_would_have_fitted_is_not_called_too_large() -> None:
    assert why_not_above(ladder(1000), line("streamed", 300, 1000)) == []
