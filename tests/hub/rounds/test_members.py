"""What devices do to their tasks."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import actions, events
from wire.messages import Evaluation

Start = Callable[..., Any]


def test_a_device_that_comes_back_is_offered_its_task_again(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.take("a", at=1)
    assert [one.member.device for one in job.wanted(actions.Offer)] == ["b"]
    job.send(events.DeviceLost(device="a"), 2)
    assert [one.member.device for one in job.wanted(actions.Offer)] == ["b"]
    job.send(events.DeviceBack(device="a"), 3)
    assert [one.member.device for one in job.wanted(actions.Offer)] == ["a", "b"]


def test_a_device_that_delivered_stays_delivered(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    after = job.update("a", at=1)
    assert job.take("a") == after
    assert job.send(events.DeviceBack(device="a")) == after
    assert job.send(events.Declined(round=1, device="a", reason="too late")) == after
    assert job.send(events.TaskFailed(round=1, device="a", reason="too late")) == after


def test_a_failed_task_is_not_taken_up_by_a_repeated_take(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0)
    job.take("a", at=1)
    failed = job.send(events.TaskFailed(round=1, device="a", reason="NaN"), 2)
    assert job.take("a", at=3) == failed


def test_losses_count_once_and_even_after_the_close(play: Start) -> None:
    job = play()
    job.open("a", job.member("e", "evaluate"), at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.evaluated("e", 1, at=101, adapter=(2.5, 10))
    job.evaluated("e", 1, at=102, adapter=(0.1, 10), base=(3.0, 10))
    losses = job.state.current.losses["e"]
    assert (losses["adapter"].loss, losses["base"].loss) == (2.5, 3.0)


@pytest.mark.parametrize(
    "lie",
    [
        Evaluation(variant="adapter", loss=float("nan"), tokens=5),
        Evaluation(variant="adapter", loss=float("inf"), tokens=5),
        Evaluation(variant="adapter", loss=-1.0, tokens=5),
        Evaluation(variant="adapter", loss=1.0, tokens=0),
        Evaluation(variant="adapter", loss=1.0, tokens=10**12),
        Evaluation(variant="invented", loss=1.0, tokens=5),
    ],
)
def test_an_impossible_loss_is_dropped_and_settles_the_evaluator(
    play: Start, lie: Evaluation
) -> None:
    job = play()
    job.open("a", job.member("e", "evaluate"), at=0, min_updates=1)
    job.send(events.Evaluated(round=1, device="e", evaluations=(lie,)), 1)
    assert job.state.current.losses == {}
    assert job.state.current.members["e"].state == "delivered"
