"""When a round closes, and what happens when too few came."""

from collections.abc import Callable
from typing import Any

from hub.rounds import events

Start = Callable[..., Any]


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
