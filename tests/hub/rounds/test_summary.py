"""A job in one document."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hub.rounds import events
from hub.rounds.state import JobState
from hub.rounds.summary import summary

Start = Callable[..., Any]


def test_the_summary_tells_who_did_what_and_what_it_brought(play: Start) -> None:
    job = play(rounds=1)
    job.open("a", "b", job.member("e", "evaluate"), at=5, min_updates=1, left_out={"z": "no room"})
    job.evaluated("a", 1, base=(4.0, 10), adapter=(4.0, 10))
    job.evaluated("e", 1, base=(2.0, 10), adapter=(2.0, 10))
    job.send(events.TaskFailed(round=1, device="b", reason="out of memory"), 6)
    job.update("a", at=7)
    job.publish(at=8)
    job.open(job.member("a", "evaluate"), at=9)
    job.evaluated("a", 2, at=10, adapter=(1.0, 10), without_prompt=(2.0, 10))
    found = summary(job.state)
    assert (found.job, found.phase, found.adapter_round) == ("j", "done", 1)
    assert (found.base_loss, found.heldout_loss) == (3.0, [3.0, 1.0])
    assert found.without_prompt_loss == 2.0
    assert found.loss_before == {"a": 4.0, "e": 2.0}
    assert found.loss_after == {"a": 1.0}
    (only,) = found.rounds
    assert (only.phase, only.accepted, only.update_bytes) == ("published", ["a"], 1000)
    assert (only.opened_ts, only.closed_ts, only.heldout_loss) == (5, 7, 1.0)
    assert only.left_out == {"z": "no room"}
    assert [(one.device, one.state, one.problem) for one in only.members] == [
        ("a", "delivered", ""),
        ("b", "failed", "out of memory"),
        ("e", "delivered", ""),
    ]
    assert (only.members[0].loss_first, only.members[0].loss_last) == (3.0, 2.0)
    assert found.evaluation is not None
    assert found.evaluation.phase == "done"
    msgspec.json.encode(found)


def test_a_rolled_back_round_tells_its_numbers(play: Start) -> None:
    gate = events.Gate(metric="heldout_loss", max_regression=0.01)
    job = play(rounds=3, publish_if=gate)
    for losses, before in (((2.0, 1.0), (3.0, 2.0)), ((4.0, 1.5), (2.0, 1.0))):
        job.trained(a=before[0], b=before[1])
        job.combine()
        job.evaluators("a", "b")
        job.candidate(a=losses[0], b=losses[1])
        job.send(events.Published(round=1))
    found = summary(job.state)
    good, bad, now = found.rounds
    assert (good.heldout_loss, good.worst_tenth, good.spread, good.measured_by) == (
        1.5,
        2.0,
        0.5,
        2,
    )
    assert (bad.phase, bad.heldout_loss, bad.worst_tenth, bad.spread) == (
        "rolled_back", 2.75, 4.0, 1.25,
    )  # fmt: skip
    assert bad.comparison is not None
    assert (bad.comparison.loss, bad.comparison.reference) == (2.75, 1.5)
    assert bad.reason.startswith("rolled back: its heldout_loss is 2.7500")
    assert now.reason == f"round 2 was {bad.reason}"
    assert (found.adapter, found.adapter_round) == ("adapter1", 1)
    assert found.heldout_loss == [2.5, 1.5, 1.5]
    assert found.loss_after == {"a": 2.0, "b": 1.0}
    assert [one.heldout_loss for one in bad.members] == [2.0, 1.0]
    msgspec.json.encode(found)


def test_what_became_of_the_hubs_own_text_is_told_by_round(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.update("a", at=1)
    measured = {"validation_loss": 2.0, "weight.a": 1.0}
    problem = "hub.public_data: its worker was ended by signal 9."
    job.send(events.Combined(round=1, manifest="m", record=measured, problem=problem))
    (only,) = summary(job.state).rounds
    assert (only.record, only.problem) == (measured, problem)


def test_a_disconnected_member_shows_as_lost(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.send(events.DeviceLost(device="b"), 1)
    assert [one.state for one in summary(job.state).rounds[0].members] == ["offered", "lost"]


def test_a_job_without_events_has_no_summary() -> None:
    with pytest.raises(ValueError, match="log is empty"):
        summary(JobState())
