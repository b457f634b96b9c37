"""What devices do to the evaluation of a candidate."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import actions, events
from hub.rounds.events import Gate
from hub.rounds.queries import may_take, workers
from wire.messages import Evaluation

Start = Callable[..., Any]


@pytest.fixture
def job(play: Start) -> Any:
    """Return a job whose first round's candidate is evaluated by a, b and c."""
    found = play(publish_if=Gate(metric="heldout_loss", max_regression=0.01))
    found.trained(a=3.0, b=3.0)
    found.combine(at=10)
    found.evaluators("a", "b", "c")
    return found


def stand(job: Any) -> dict[str, str]:
    members = job.state.current.candidate.members
    return {device: one.state for device, one in members.items()}


def taken(device: str) -> events.Taken:
    return events.Taken(round=1, device=device, candidate=True)


def test_a_task_is_taken_declined_or_fails(job: Any) -> None:
    job.send(taken("a"))
    job.send(events.Declined(round=1, device="b", reason="busy", candidate=True))
    job.send(events.TaskFailed(round=1, device="c", reason="no text", candidate=True))
    assert stand(job) == {"a": "taken", "b": "declined", "c": "failed"}
    assert [one.member.device for one in job.wanted(actions.Offer)] == []
    assert job.state.current.members["a"].state == "delivered", "its training is another task"


def test_it_is_another_task_than_the_training_of_the_round(job: Any) -> None:
    assert may_take(job.state, "c", 1, 11.0) == "c has no task in round 1."
    assert may_take(job.state, "c", 1, 11.0, candidate=True) is None
    before = job.state
    assert job.send(events.Taken(round=1, device="a")) == before
    assert job.evaluated("c", 1, adapter=(1.0, 10)) == before
    assert workers(job.state) == {"a", "b", "c"}
    job.candidate(a=2.0)
    assert may_take(job.state, "c", 1, 500.0, candidate=True) == (
        "the task in round 1 is not open any more (missed)."
    )


def test_the_first_report_of_a_loss_counts_and_nonsense_is_none(job: Any) -> None:
    job.candidate(a=2.0)
    job.candidate(a=9.0, b=float("nan"))
    job.candidate(x=1.0)
    losses = job.state.current.candidate.losses
    assert {device: one.loss for device, one in losses.items()} == {"a": 2.0}
    assert stand(job) == {"a": "delivered", "b": "delivered", "c": "offered"}


def test_a_lost_device_is_not_waited_for_and_gets_its_offer_again(job: Any) -> None:
    job.send(taken("c"))
    job.send(events.DeviceLost(device="c"))
    assert [one.member.device for one in job.wanted(actions.Offer)] == ["a", "b"]
    job.candidate(a=2.0)
    job.send(events.DeviceBack(device="c"))
    assert stand(job)["c"] == "offered"
    job.send(events.DeviceLost(device="c"))
    assert job.candidate(b=2.0).phase == "aggregating"


def test_further_devices_join_in_this_attempt_only(job: Any) -> None:
    job.evaluators("d", "a")
    assert stand(job) == dict.fromkeys("abcd", "offered")
    before = job.state
    assert job.evaluators("e", attempt=2) == before
    trainer = events.Opened(round=1, attempt=1, members=(job.member("e"),), deadline_s=1.0)
    assert job.send(trainer) == before


def test_a_report_after_the_decision_is_kept_and_changes_nothing_else(job: Any) -> None:
    job.candidate(a=2.0)
    job.clock(130)
    job.send(events.Published(round=1))
    found = (Evaluation(variant="adapter", loss=2.5, tokens=10),)
    late = events.Evaluated(round=1, device="b", evaluations=found, candidate=True)
    record = job.send(late).records[0]
    assert record.comparison.devices == 1
    assert {device: one.loss for device, one in record.candidate.losses.items()} == {
        "a": 2.0,
        "b": 2.5,
    }
    failed = events.TaskFailed(round=1, device="c", reason="out of memory", candidate=True)
    assert job.send(failed).records[0].candidate.members["c"].reason == "out of memory"


def test_an_evaluation_without_the_adapter_is_no_loss(job: Any) -> None:
    base = (Evaluation(variant="base", loss=4.0, tokens=1),)
    job.send(events.Evaluated(round=1, device="a", evaluations=base, candidate=True))
    assert job.state.current.candidate.losses == {}
    assert stand(job)["a"] == "delivered"
