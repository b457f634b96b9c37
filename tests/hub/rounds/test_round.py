"""The round's path, worked by hand."""

from collections.abc import Callable
from typing import Any

import msgspec

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
