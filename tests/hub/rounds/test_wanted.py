"""What the coordinator is asked to do."""

from collections.abc import Callable
from typing import Any

from hub.rounds import actions, events
from hub.rounds.round import wanted
from hub.rounds.state import JobState

Start = Callable[..., Any]


def test_nothing_is_wanted_of_a_job_that_does_not_exist() -> None:
    assert wanted(JobState(), 0.0) == []


def test_a_new_job_is_announced_and_opened(play: Start) -> None:
    job = play()
    assert wanted(job.state, 0.0) == [
        actions.Announce(round=1, phase="open", adapter="start", deadline_ts=None, reason=""),
        actions.Open(round=1, attempt=1, exclude=(), need=None),
    ]


def test_the_announcement_says_for_what_a_round_waits(play: Start) -> None:
    job = play()
    job.send(events.Waiting(round=1, reason="0 of 2 training devices are there"))
    (announce,) = job.wanted(actions.Announce)
    assert announce.reason == "0 of 2 training devices are there"


def test_offers_name_the_adapter_and_the_deadline(play: Start) -> None:
    job = play()
    job.open("a", at=10)
    (offer,) = job.wanted(actions.Offer)
    assert (offer.round, offer.member.device) == (1, "a")
    assert (offer.start, offer.deadline_ts) == ("start", 110.0)
    job.take("a")
    assert job.wanted(actions.Offer) == []


def test_once_the_deadline_has_passed_only_the_clock_is_wanted(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    assert job.wanted(actions.CloseRound, at=99.9) == []
    assert job.wanted(actions.CloseRound, at=100) == [actions.CloseRound(round=1)]
    assert job.wanted(actions.Offer, at=100) == []


def test_a_second_attempt_asks_for_what_is_missing(play: Start) -> None:
    job = play()
    job.open("a", "b", "c", at=0)
    job.update("a", at=1)
    job.clock(100)
    assert job.wanted(actions.Open) == [
        actions.Open(round=1, attempt=2, exclude=("a", "b", "c"), need=2)
    ]


def test_combining_comes_before_publishing(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.update("a", at=1)
    (combine,) = job.wanted(actions.Combine)
    assert (combine.round, combine.start) == (1, "start")
    job.send(events.Combined(round=1, manifest="next"))
    assert job.wanted(actions.Combine) == []
    assert job.wanted(actions.Publish) == [actions.Publish(round=1, manifest="next")]


def test_the_final_evaluation_asks_for_devices_and_offers_to_them(play: Start) -> None:
    job = play(rounds=1)
    job.open("a", at=0)
    job.update("a", at=1)
    job.publish(at=2)
    assert job.wanted(actions.OpenEvaluation, at=2) == [
        actions.OpenEvaluation(round=2, known=(), remaining_s=120.0)
    ]
    job.open(job.member("a", "evaluate"), at=3)
    (offer,) = job.wanted(actions.Offer)
    assert (offer.round, offer.member.kind, offer.start) == (2, "evaluate", "adapter1")
    (announce,) = job.wanted(actions.Announce)
    assert (announce.round, announce.phase, announce.adapter) == (1, "evaluating", "adapter1")


def test_a_device_on_an_old_task_is_freed_for_its_new_one(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.take("b", at=1)
    job.update("a", at=2)
    job.clock(100)
    assert job.wanted(actions.CancelTask) == []  # it may still deliver, late
    job.publish(at=101)
    job.open("a", "b", at=102)
    (cancel,) = job.wanted(actions.CancelTask)
    assert (cancel.round, cancel.device) == (1, "b")
    job.take("b", at=103)
    assert job.wanted(actions.CancelTask) == []


def test_a_job_that_ends_stops_its_tasks_for_a_while(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.update("a", at=1)
    job.send(events.Cancelled(reason="by ada"), 10)
    assert [one.device for one in job.wanted(actions.CancelTask, at=70)] == ["b"]
    assert job.wanted(actions.CancelTask, at=70.1) == []
    assert job.wanted(actions.EndJob) == [actions.EndJob(phase="cancelled", reason="by ada")]
