"""The round's path, worked by hand."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hub.rounds import events
from hub.rounds.round import apply
from hub.rounds.state import JobState

Start = Callable[..., Any]


def test_a_job_goes_through_every_phase(play: Start) -> None:
    job = play(rounds=1)
    phases = [job.state.phase]
    for step in (
        lambda: job.open("a", "b", at=10),
        lambda: job.take("a", at=11),
        lambda: job.update("a", at=20),
        lambda: job.take("b", at=21),
        lambda: job.update("b", at=22),
        lambda: job.publish(at=23),
        lambda: job.open(job.member("a", "evaluate"), at=24),
        lambda: job.evaluated("a", 2, at=25, adapter=(1.0, 5)),
    ):
        step()
        phases.append(job.state.phase)
    assert phases == [
        "open", "offering", "training", "collecting", "collecting", "aggregating",
        "evaluating", "evaluating", "done",
    ]  # fmt: skip
    assert job.state.records[0].phase == "published"
    assert job.state.records[0].published_at == 23
    assert job.state.adapter == "adapter1"


def test_the_next_round_starts_from_the_published_adapter(play: Start) -> None:
    job = play(rounds=2)
    job.open("a")
    job.update("a")
    assert job.state.current.start == "start"
    job.publish()
    assert (job.state.current.round, job.state.current.start) == (2, "adapter1")
    job.open("a")
    job.update("a")
    update = job.state.current.accepted["a"]
    assert (update.start, update.based_on, update.staleness(2)) == ("adapter1", 1, 0)


def test_a_round_closes_at_its_deadline_with_whoever_came(play: Start) -> None:
    job = play()
    job.open("a", "b", "c", at=10, min_updates=2)
    for device in "abc":
        job.take(device, at=11)
    job.update("a", at=20)
    job.update("b", at=30)
    assert job.clock(109.9).phase == "collecting"
    assert job.clock(110).phase == "aggregating"
    assert job.combining() == ["a@1", "b@1"]
    assert job.state.current.members["c"].state == "missed"
    assert job.state.current.close_reason == "the deadline"


def test_a_round_closes_early_once_everyone_has_delivered_failed_or_declined(play: Start) -> None:
    job = play()
    job.open("a", "b", "c", at=0, min_updates=1)
    job.update("a", at=1)
    job.send(events.TaskFailed(round=1, device="b", reason="out of memory"), 2)
    assert job.state.phase == "collecting"
    job.send(events.Declined(round=1, device="c", reason="on battery"), 3)
    assert job.state.phase == "aggregating"
    assert job.state.current.members["b"].reason == "out of memory"


def test_a_round_closes_early_when_the_rest_is_lost(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.take("b", at=1)
    job.update("a", at=2)
    assert job.send(events.DeviceLost(device="b"), 3).phase == "aggregating"


def test_a_round_waits_for_lost_devices_while_it_has_too_few_updates(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.send(events.DeviceLost(device="a"), 1)
    assert job.send(events.DeviceLost(device="b"), 2).phase == "offering"
    job.send(events.DeviceBack(device="a"), 40)
    job.send(events.DeviceBack(device="b"), 41)
    job.update("a", at=50)
    assert job.update("b", at=99).phase == "aggregating"
    assert job.combining() == ["a@1", "b@1"]


def test_evaluators_are_waited_for_until_the_deadline_only(play: Start) -> None:
    job = play()
    job.open("a", job.member("e", "evaluate"), at=0, min_updates=1)
    assert job.update("a", at=1).phase == "collecting"
    assert job.clock(100).phase == "aggregating"


def test_an_evaluator_settles_with_its_report(play: Start) -> None:
    job = play()
    job.open("a", job.member("e", "evaluate"), at=0, min_updates=1)
    job.update("a", at=1)
    assert job.evaluated("e", 1, at=2, adapter=(2.0, 10)).phase == "aggregating"


def test_a_round_closes_at_once_when_its_target_is_reached(play: Start) -> None:
    job = play()
    job.open("a", "b", "c", at=0, min_updates=1, target=2)
    job.update("a", at=1)
    assert job.update("c", at=2).phase == "aggregating"
    assert "target of 2" in job.state.current.close_reason


def test_an_update_counts_once(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    once = job.update("a", at=1)
    assert job.update("a", at=2) == once
    job.update("b", at=3)
    assert job.combining() == ["a@1", "b@1"]


def test_an_update_without_its_taken_event_counts(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    assert job.update("a", at=1).phase == "collecting"


def test_the_claimed_tokens_are_at_most_what_the_task_was_worth(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)  # 10 steps of 2 x 8 tokens
    job.update("a", at=1, tokens=10**15)
    job.update("b", at=2, tokens=0)
    tokens = {device: one.tokens for device, one in job.state.current.accepted.items()}
    assert tokens == {"a": 160, "b": 1}


def test_too_few_updates_are_retried_once_with_other_devices_and_keep_what_came(
    play: Start,
) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.send(events.TaskFailed(round=1, device="b", reason="NaN"), 2)
    assert (job.state.phase, job.state.current.attempt) == ("open", 2)
    assert job.state.current.exclude == ("a", "b")
    job.open("c", at=3)
    job.update("c", at=4)
    assert job.state.phase == "aggregating"
    assert job.combining() == ["a@1", "c@1"]


def test_a_lost_device_may_serve_in_the_second_attempt(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.send(events.DeviceLost(device="b"), 2)
    job.clock(100)
    assert job.state.current.exclude == ("a",)
    job.send(events.DeviceBack(device="b"), 101)
    changed = job.member("b", steps=3)
    job.open(changed, at=102)
    assert job.state.current.members["b"].member.steps == 10  # the task keeps its first plan
    job.update("b", at=103)
    assert job.combining() == ["a@1", "b@1"]


def test_a_second_failure_fails_the_job_with_the_reason(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.send(events.Declined(round=1, device="b", reason="busy"), 2)
    job.open("c", at=3)
    job.send(events.Declined(round=1, device="c", reason="busy"), 4)
    assert job.state.phase == "failed"
    assert job.state.current.phase == "failed"
    assert job.state.reason.startswith("round 1 failed: 1 of the 2 updates needed")


def test_a_second_attempt_for_which_nobody_comes_is_given_up(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.clock(100)
    assert job.clock(199).phase == "open"
    assert job.clock(200).phase == "failed"
    assert "no other devices came within 100 s" in job.state.reason


def test_a_straggler_of_the_first_attempt_still_counts(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.clock(100)
    assert job.state.current.attempt == 2
    assert job.update("b", at=101).phase == "aggregating"
    assert job.combining() == ["a@1", "b@1"]
    assert job.state.current.accepted["b"].staleness(1) == 0


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


def test_a_round_of_evaluators_alone_waits_in_open(play: Start) -> None:
    job = play()
    job.open(job.member("e", "evaluate"), at=0)
    assert job.state.phase == "open"
    assert "can train" in job.state.current.waiting
    job.send(events.Waiting(round=1, reason="1 of 3 training devices are there"))
    assert job.state.current.waiting == "1 of 3 training devices are there"
    assert job.clock(1e9).phase == "open"
    assert job.open("a", at=1e9 + 1).current.waiting == ""


def test_strangers_and_other_rounds_change_nothing(play: Start) -> None:
    job = play()
    before = job.open("a", "b", at=0)
    for send in (
        lambda: job.take("x"),
        lambda: job.update("x"),
        lambda: job.update("a", round_=2),
        lambda: job.update("a", round_=99),
        lambda: job.take("a", round_=7),
        lambda: job.send(events.DeviceLost(device="x")),
        lambda: job.send(events.DeviceBack(device="x")),
        lambda: job.send(events.TaskFailed(round=3, device="a", reason="")),
        lambda: job.send(events.Combined(round=1, manifest="evil")),
        lambda: job.send(events.Published(round=1)),
        lambda: job.send(events.CombineFailed(round=1, reason="early")),
        lambda: job.evaluated("x", 1, adapter=(1.0, 1)),
        lambda: job.open("z", round=1, attempt=1),
        lambda: job.send(msgspec.structs.replace(job.log[0][1], start="other")),
    ):
        assert send() == before


def test_an_evaluator_cannot_send_an_update(play: Start) -> None:
    job = play()
    before = job.open("a", job.member("e", "evaluate"), at=0)
    assert job.update("e") == before


def test_nothing_happens_before_the_job_is_submitted() -> None:
    assert apply(JobState(), events.Clock(), 5.0) == JobState()
    assert apply(JobState(), events.Taken(round=1, device="a"), 5.0) == JobState()


def test_one_spoiled_update_is_set_aside(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.update("b", at=2)
    failed = events.CombineFailed(round=1, device="a", reason="its blob is gone")
    once = job.send(failed, 3)
    assert job.combining() == ["b@1"]
    assert job.send(failed, 4) == once
    assert job.state.current.spoiled == {"a": "its blob is gone"}


def test_spoiled_updates_that_leave_too_few_reopen_the_round(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.update("b", at=2)
    job.send(events.CombineFailed(round=1, device="a", reason="damaged"), 3)
    assert (job.state.phase, job.state.current.attempt) == ("open", 2)
    job.open("c", at=4)
    job.update("c", at=5)
    assert job.combining() == ["b@1", "c@1"]


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


def test_a_device_that_stayed_silent_while_connected_is_not_asked_again(play: Start) -> None:
    job = play()
    job.open("a", "b", "c", at=0)
    job.send(events.DeviceLost(device="a"), 1)
    job.send(events.TaskFailed(round=1, device="c", reason="NaN"), 2)
    job.send(events.DeviceLost(device="c"), 3)
    job.clock(100)
    assert job.state.current.exclude == ("b", "c")


def test_a_round_never_closes_without_any_update(play: Start) -> None:
    job = play()
    job.open("a", at=0, min_updates=0)
    assert job.clock(100).phase == "open"


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


def test_updates_that_cannot_be_combined_fail_the_job(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.update("a", at=1)
    job.send(events.CombineFailed(round=1, reason="no disk space"), 2)
    assert job.state.phase == "failed"
    assert job.state.reason == "round 1 failed: no disk space"


def test_combined_and_published_count_once(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.update("a", at=1)
    job.send(events.Combined(round=1, manifest="first", record={"error": 0.5}), 2)
    job.send(events.Combined(round=1, manifest="second"), 3)
    after = job.send(events.Published(round=1), 4)
    assert (after.adapter, after.records[0].record) == ("first", {"error": 0.5})
    assert job.send(events.Published(round=1), 5) == after


def test_a_hub_that_was_away_gives_the_time_back(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.take("a", at=1)
    job.send(events.HubBack(away_s=3600.0), 3660.0)  # away from 60 on, 40 s were left
    assert job.state.current.deadline == 3700.0
    assert job.clock(3699).phase == "training"
    assert job.update("a", at=3699.5).phase == "aggregating"


def test_a_hub_that_was_away_leaves_time_to_reconnect(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.send(events.HubBack(away_s=10.0), 109.0)  # 1 s was left
    assert job.state.current.deadline == 139.0


def test_cancelled_is_the_end(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    ended = job.send(events.Cancelled(reason="by ada"), 5)
    assert (ended.phase, ended.reason) == ("cancelled", "by ada")
    assert job.update("a", at=6) == ended
    assert job.clock(1000) == ended
    assert job.send(events.HubBack(away_s=5), 1001) == ended


def test_the_final_evaluation_ends_at_its_deadline_without_anyone(play: Start) -> None:
    job = play(rounds=1, evaluation_s=50.0)
    job.open("a", at=0)
    job.update("a", at=1)
    job.publish(at=10)
    assert job.clock(59).phase == "evaluating"
    assert job.clock(60).phase == "done"


def test_the_final_evaluation_takes_in_devices_that_come_meanwhile(play: Start) -> None:
    job = play(rounds=1)
    job.open("a", at=0)
    job.update("a", at=1)
    job.publish(at=10)
    job.open(job.member("a", "evaluate"), job.member("b", "evaluate"), at=11)
    job.open(job.member("a", "evaluate"), job.member("c", "evaluate"), at=12)
    job.evaluated("a", 2, adapter=(1.0, 1))
    job.send(events.TaskFailed(round=2, device="b", reason="no memory"))
    assert job.state.phase == "evaluating"
    assert job.send(events.DeviceLost(device="c"), 13).phase == "done"
