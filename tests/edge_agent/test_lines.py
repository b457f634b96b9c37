"""The line of the ladder that an offered task is done on, before and after it ran out of memory."""

import msgspec
import pytest

from edge_agent.lines import line_of, lower_line
from wire.messages import AdapterRef, LocalWork, Offer, RungPlan


def line(rung: str, peak: int, batch: int = 4, rank: int = 8, role: str = "lora") -> RungPlan:
    return RungPlan(
        role=role,  # type: ignore[arg-type]
        rung=rung,
        rank=rank,
        batch=batch,
        seq_len=256,
        predicted_peak_bytes=peak,
        fits=peak <= 1000,
    )


LADDER = [
    line("resident", 1200),
    line("resident", 900, batch=2),
    line("resident", 800, batch=2, rank=4),
    line("checkpointed", 700),
    line("checkpointed", 600, batch=2),
    line("streamed", 400),
    line("streamed", 300, batch=2),
    line("streamed", 250, batch=1),
    line("core", 200),
    line("prompt", 180, rank=0, role="prompt"),
    line("infer", 150, rank=0, role="infer"),
    line("infer", 120, batch=2, rank=0, role="infer"),
]
PLAN = LADDER[3]
WORK = LocalWork(steps=5, batch=4, seq_len=256, optimizer="adamw", lr=1e-3, seed=7)
OFFER = Offer(
    session="s",
    task="j.1.a",
    job="j",
    round=1,
    kind="train",
    role="lora",
    rung="checkpointed",
    rank=8,
    adapter=AdapterRef(sha256="0" * 64, size_bytes=1),
    base="0" * 64,
    http="http://127.0.0.1:1",
    codec="raw",
    work=WORK,
    deadline_s=60,
)


def offer(**changes: object) -> Offer:
    work = msgspec.structs.replace(WORK, batch=changes.pop("batch", 4))
    return msgspec.structs.replace(OFFER, **{"work": work, **changes})


def below(limit: int) -> list[RungPlan]:
    """Return the ladder as it is judged after something ran out of memory."""
    return [msgspec.structs.replace(x, fits=x.predicted_peak_bytes < limit) for x in LADDER]


def test_what_was_offered_is_where_it_begins() -> None:
    assert line_of(OFFER, LADDER, PLAN) == LADDER[3]
    assert line_of(offer(batch=2, rung="resident"), LADDER, PLAN) == LADDER[1]


def test_a_rung_that_ran_out_before_the_offer_was_made_anew_is_passed_over() -> None:
    assert line_of(OFFER, below(700), PLAN) == LADDER[5]


def test_nothing_above_the_offer_is_taken() -> None:
    streamed = offer(rung="streamed", batch=2)
    assert line_of(streamed, LADDER, PLAN) == LADDER[6]


def test_without_room_for_any_of_it_there_is_no_line() -> None:
    assert line_of(OFFER, below(250), PLAN) is None


def test_sizes_that_are_no_step_of_the_ladder_are_taken_as_offered() -> None:
    odd = line_of(offer(batch=3, rank=5), LADDER, PLAN)
    assert odd is not None
    assert (odd.role, odd.rung, odd.rank) == ("lora", "checkpointed", 5)
    assert (odd.batch, odd.seq_len) == (3, 256)
    assert odd.predicted_peak_bytes == PLAN.predicted_peak_bytes


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (0, 3),  # the same work one rung down, not less work on the same rung
        (3, 5),
        (5, 6),  # nothing holds the whole work any more: less at a time
        (6, 7),
        (7, None),  # a core, a prompt, an evaluation: none is what was offered
    ],
)
def test_a_task_that_ran_out_goes_down_line_by_line(failed: int, expected: int | None) -> None:
    gone = LADDER[failed]
    found = lower_line(OFFER, below(gone.predicted_peak_bytes), gone)
    assert found == (None if expected is None else below(gone.predicted_peak_bytes)[expected])


def test_the_rank_stays_as_it_was_offered() -> None:
    found = lower_line(offer(rank=4, batch=2, rung="resident"), below(800), LADDER[2])
    assert found is None


def test_an_evaluation_goes_on_with_fewer_rows_at_a_time() -> None:
    evaluation = offer(kind="evaluate", role="infer", rung="infer", rank=0, work=None)
    assert line_of(evaluation, LADDER, PLAN) == LADDER[10]
    found = lower_line(evaluation, below(150), LADDER[10])
    assert found is not None
    assert (found.rung, found.batch) == ("infer", 2)


def test_an_evaluation_on_a_training_rung_goes_down_to_inference() -> None:
    evaluation = offer(kind="evaluate", work=None)
    assert line_of(evaluation, LADDER, PLAN) == LADDER[3]
    first = lower_line(evaluation, below(700), LADDER[3])
    assert first is not None
    assert (first.rung, first.batch) == ("checkpointed", 2)
    second = lower_line(evaluation, below(600), LADDER[4])
    assert second is not None
    assert (second.rung, second.batch) == ("infer", 4)


def test_training_without_backprop_is_done_on_its_own_rung_only():
    forward = line("forward-only", 160, batch=16, rank=2, role="infer")
    ladder = [*LADDER[:-2], forward, *LADDER[-2:]]
    work = msgspec.structs.replace(WORK, batch=16)
    offer = msgspec.structs.replace(OFFER, role="infer", rung="forward-only", rank=2, work=work)
    assert line_of(offer, ladder, forward) == forward
    assert lower_line(offer, ladder, forward) is None
