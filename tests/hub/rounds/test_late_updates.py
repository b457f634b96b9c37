"""Updates that come after their round has closed."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import events

Start = Callable[..., Any]


def test_a_late_update_enters_the_next_round_as_stale(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    assert job.combining() == ["a@1"]
    job.publish(at=102)
    job.open("a", at=103)
    job.update("a", at=104)
    assert job.combining() == ["a@2", "b@1"]
    assert job.state.current.stale["b"].staleness(2) == 1
    assert job.state.current.stale["b"].start == "start"
    assert job.state.records[0].members["b"].state == "late"


def test_a_late_update_joins_the_round_that_is_under_way(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.publish(at=101)
    job.open("a", at=102)
    job.update("b", at=103, round_=1)
    job.update("a", at=104)
    assert job.combining() == ["a@2", "b@1"]


@pytest.mark.parametrize("stale_first", [True, False])
def test_a_fresh_update_replaces_the_same_devices_stale_one(play: Start, stale_first: bool) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.publish(at=101)
    job.open("a", "b", at=102)
    for round_ in (1, 2) if stale_first else (2, 1):
        job.update("b", at=103, round_=round_)
    job.update("a", at=104)
    assert job.combining() == ["a@2", "b@2"]
    assert [one.sha256 for one in job.state.current.superseded] == ["b@1"]


def test_after_the_last_rounds_close_an_update_changes_nothing(play: Start) -> None:
    job = play(rounds=1)
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    closed = job.clock(100)
    assert job.update("b", at=101) == closed


def test_an_update_after_the_deadline_is_late_even_before_the_clock_ticked(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.update("b", at=100)
    assert job.combining() == ["a@1"]
    assert list(job.state.late) == ["b"]


def test_a_stale_update_survives_a_second_attempt(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    job.publish(at=102)
    job.open("a", "c", at=103)
    job.update("a", at=104)
    job.clock(203)  # b's stale update makes two: round 2 closes with it
    assert job.combining() == ["a@2", "b@1"]
    job.send(events.CombineFailed(round=2, device="a", reason="damaged"), 204)
    assert job.state.phase == "open"
    job.open("d", at=205)
    job.update("d", at=206)
    assert job.combining() == ["b@1", "d@2"]


def test_a_fresh_update_replaces_the_stale_one_of_a_round_that_reopened(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    job.publish(at=102)
    job.open("a", "b", at=103)
    job.update("a", at=104)
    job.clock(203)
    job.send(events.CombineFailed(round=2, device="a", reason="damaged"), 204)
    job.update("b", at=205, round_=2)
    assert list(job.state.current.stale) == []
    assert [one.sha256 for one in job.state.current.superseded] == ["b@1"]
    job.open("d", at=206)
    job.update("d", at=207)
    assert job.combining() == ["b@2", "d@2"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_two_late_updates_of_one_device_the_newer_counts(
    play: Start, order: tuple[int, int]
) -> None:
    job = play(rounds=3)
    for _ in range(2):
        job.open("a", "b", min_updates=1)
        job.update("a")
        job.clock(job.state.current.deadline)
        job.publish()
    for round_ in order:
        job.update("b", round_=round_)
    job.update("b", round_=1)  # a repetition
    job.open("a")
    job.update("a")
    assert job.combining() == ["a@3", "b@2"]
    assert [one.sha256 for one in job.state.current.superseded] == ["b@1"]


def test_a_late_update_takes_the_place_of_a_spoiled_one(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    job.send(events.CombineFailed(round=1, device="a", reason="damaged"), 102)
    assert job.combining() == ["b@1"]


def test_a_round_that_closes_again_keeps_each_devices_newest_update(play: Start) -> None:
    job = play(rounds=3)
    job.open("a", "b", "c", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    job.publish(at=102)
    job.open("a", "b", "c", at=103, min_updates=1)
    job.update("a", at=104)
    job.update("c", at=105)
    job.clock(203)
    job.update("b", at=204, round_=2)
    job.update("c", at=205, round_=1)
    assert job.combining() == ["a@2", "b@1", "c@2"]
    job.send(events.CombineFailed(round=2, device="a", reason="damaged"), 206)
    job.send(events.CombineFailed(round=2, device="b", reason="damaged"), 206)
    assert job.combining() == ["c@2"]  # what came late waits for round 3
    job.send(events.CombineFailed(round=2, device="c", reason="damaged"), 206)
    assert job.combining() == ["b@2", "c@1"]


def test_of_a_device_in_both_the_newer_update_is_combined(play: Start) -> None:
    job = play(rounds=3)
    job.open("a", "b", "c", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    job.publish(at=102)
    job.open("a", "b", "c", at=103, min_updates=3)
    job.update("a", at=104)
    job.update("c", at=105)
    job.clock(203)
    assert job.combining() == ["a@2", "b@1", "c@2"]
    job.update("b", at=204, round_=2)
    job.update("c", at=205, round_=1)
    job.send(events.CombineFailed(round=2, device="a", reason="damaged"), 206)
    job.open("d", at=207)
    job.update("d", at=208)
    assert job.combining() == ["b@2", "c@2", "d@2"]
    dropped = sorted(one.sha256 for one in job.state.current.superseded)
    assert dropped == ["b@1", "c@1"]
