"""Released or rolled back: the gate and the stopping rule, worked by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import actions, events
from hub.rounds.events import Gate, Until
from hub.rounds.queries import last_accepted, needed_adapters, needed_states, verdict

Start = Callable[..., Any]
GATE = Gate(metric="heldout_loss", max_regression=0.01)


@pytest.fixture
def gated(play: Start) -> Any:
    """Return a job whose first round was released: the loss fell from 3.0 to 2.0."""
    job = play(rounds=4, publish_if=GATE)
    job.trained(a=3.0, b=3.0)
    job.combine()
    job.evaluators("a", "b")
    job.candidate(a=2.0, b=2.0)
    job.send(events.Published(round=1))
    return job


def rolled_back(job: Any) -> None:
    """Play a second round whose adapter is worse."""
    job.trained(a=2.0, b=2.0)
    job.combine()
    job.evaluators("a", "b")
    job.candidate(a=2.5, b=2.5)


def test_a_combined_adapter_is_a_candidate_first(play: Start) -> None:
    job = play(publish_if=GATE)
    job.trained(a=3.0)
    job.combine(at=10)
    assert job.state.phase == "evaluating"
    assert job.state.adapter == "start", "nothing new is announced yet"
    (asked,) = job.wanted(actions.OpenEvaluation)
    assert (asked.candidate, asked.known, asked.remaining_s) == ("adapter1", (), 120.0)
    assert job.wanted(actions.Publish) == []
    job.evaluators("a", "c")
    offers = job.wanted(actions.Offer)
    assert [(one.member.device, one.start, one.candidate) for one in offers] == [
        ("a", "adapter1", True),
        ("c", "adapter1", True),
    ]
    assert job.wanted(actions.OpenEvaluation)[0].known == ("a", "c")
    assert needed_adapters(job.state) == {"start", "adapter1"}


def test_a_good_candidate_is_released_when_all_have_answered(play: Start) -> None:
    job = play(publish_if=GATE)
    job.trained(a=3.0, b=2.0)
    job.combine(at=10)
    job.evaluators("a", "b", "c")
    job.candidate(a=2.5, b=2.1)
    assert job.state.phase == "evaluating", "c still owes its answer"
    job.send(events.Declined(round=1, device="c", reason="busy", candidate=True))
    (publish,) = job.wanted(actions.Publish)
    assert (publish.manifest, publish.heard) == ("adapter1", True)
    found = job.state.current.comparison
    # a 2.5 and b 2.1 on 10 tokens each; before (3.0 + 2.0) / 2
    assert (found.loss, found.reference, found.devices) == (pytest.approx(2.3), 2.5, 2)
    assert found.regression == pytest.approx(-0.08)
    state = job.send(events.Published(round=1))
    assert (state.adapter, state.current.start, state.best) == ("adapter1", "adapter1", 1)
    assert state.current.start_state == "state1"


def test_a_bad_candidate_is_rolled_back_to_the_adapter_and_the_state_of_one_record(
    gated: Any,
) -> None:
    rolled_back(gated)
    state = gated.state
    bad, now = state.records[1], state.current
    assert (bad.phase, bad.combined, bad.published_at) == ("rolled_back", "adapter2", None)
    assert (now.round, now.phase) == (3, "open")
    assert (state.adapter, now.start, now.start_state) == ("adapter1", "adapter1", "state1")
    assert bad.reason == (
        "rolled back: its heldout_loss is 2.5000, that of round 1 has 2.0000 over 2 devices; "
        "allowed are 1.00% more, not 25.00%"
    )
    (told,) = gated.wanted(actions.Announce)
    assert (told.round, told.adapter, told.reason) == (3, "adapter1", f"round 2 was {bad.reason}")
    # The next round combines onto the good one, with what the strategy kept beside that one.
    gated.trained(a=2.0, b=2.0)
    (combine,) = gated.wanted(actions.Combine)
    assert (combine.start, combine.state) == ("adapter1", "state1")


def test_what_is_allowed_is_counted_from_the_best_released_adapter(gated: Any) -> None:
    """1 % above 2.0 is 2.02; two rounds of 0.9 % each would be 2.036."""
    for loss, phase in ((2.018, "published"), (2.036, "rolled_back")):
        gated.trained(a=2.0, b=2.0)
        gated.combine()
        gated.evaluators("a", "b")
        gated.candidate(a=loss, b=loss)
        if phase == "published":
            gated.send(events.Published(round=gated.state.current.round))
        assert gated.state.records[-2].phase == phase
    assert gated.state.records[2].comparison.reference_round == 1


def test_only_devices_that_measured_both_are_compared(gated: Any) -> None:
    """c's text is hard: without a's and b's answers its 9.0 would look like a catastrophe."""
    gated.trained(a=2.0, b=2.0)
    gated.combine()
    gated.evaluators("a", "c")
    gated.candidate(a=(1.9, 10), c=(9.0, 1000))
    found = gated.state.current.comparison
    assert (found.loss, found.reference, found.devices) == (1.9, 2.0, 1)


def test_who_never_knew_the_best_one_is_compared_with_the_rounds_start(gated: Any) -> None:
    gated.trained(a=2.0, b=2.0)
    gated.combine()
    gated.evaluators("a", "b")
    gated.candidate(a=2.01, b=2.01)
    gated.send(events.Published(round=2))
    assert gated.state.best == 1
    gated.trained(x=5.0, y=5.0)  # other devices altogether: they measured what round 2 released
    gated.combine()
    gated.evaluators("x", "y")
    gated.candidate(x=4.0, y=4.0)
    found = gated.state.current.comparison
    assert (found.reference_round, found.reference, gated.state.best) == (2, 5.0, 3)


def test_the_worst_tenth_can_be_what_counts(play: Start) -> None:
    """The mean falls from 2.0 to 1.6, but the worst device goes from 3.0 to 3.1."""
    for metric, phase in (("heldout_loss", "aggregating"), ("worst_tenth", "open")):
        job = play(rounds=4, publish_if=Gate(metric=metric, max_regression=0.01))
        job.trained(a=3.0, b=1.0)
        job.combine()
        job.evaluators("a", "b")
        assert job.candidate(a=3.1, b=0.1).phase == phase


def test_an_evaluation_ends_at_its_deadline_with_whoever_answered(play: Start) -> None:
    job = play(publish_if=GATE)
    job.trained(a=3.0, b=3.0)
    job.combine(at=10)
    job.evaluators("a", "b")
    job.candidate(at=20, a=2.0)
    assert job.clock(129.9).phase == "evaluating"
    assert job.clock(130).phase == "aggregating"
    assert job.state.current.comparison.devices == 1
    assert job.state.current.candidate.members["b"].state == "missed"


def test_a_slow_rounds_devices_have_as_long_as_for_the_round(play: Start) -> None:
    job = play(publish_if=GATE)
    job.open("a", deadline_s=900.0)
    job.update("a")
    job.combine(at=10)
    assert job.wanted(actions.OpenEvaluation)[0].remaining_s == 900.0


def test_what_nobody_measured_is_never_released(play: Start) -> None:
    job = play(publish_if=GATE)
    job.trained(a=3.0)
    job.combine(at=10)
    job.evaluators("a", "b")
    job.send(events.TaskFailed(round=1, device="a", reason="no text", candidate=True))
    job.send(events.Declined(round=1, device="b", reason="busy", candidate=True))
    assert job.state.phase == "evaluating", "others may come until the deadline"
    assert job.wanted(actions.OpenEvaluation)[0].known == ("a", "b")
    job.clock(130)
    assert (job.state.phase, job.state.current.candidate.attempt) == ("evaluating", 2)
    (again,) = job.wanted(actions.OpenEvaluation)
    assert (again.known, again.attempt) == ((), 2), "both are asked once more"
    job.evaluators("a", attempt=2)
    assert job.clock(249.9).phase == "evaluating"
    assert job.clock(250).phase == "failed"
    assert job.state.adapter == "start"
    assert job.state.reason == (
        "round 1 failed: no device measured both its adapter and a released one; "
        "a: offered; b: busy; this was the second attempt"
    )


def test_a_second_attempt_counts_what_the_first_one_brought(play: Start) -> None:
    job = play(publish_if=GATE)
    job.trained(a=3.0)
    job.combine(at=10)
    job.evaluators("x", "a")
    job.take("x")
    job.send(events.Taken(round=1, device="a", candidate=True))
    job.candidate(x=2.0)  # it never measured the start
    job.clock(130)
    assert job.wanted(actions.OpenEvaluation)[0].known == ("a", "x")
    assert job.candidate(at=140, a=2.0).phase == "aggregating"


def test_validation_text_of_the_hub_decides_at_once(play: Start) -> None:
    gate = Gate(metric="validation_loss", max_regression=0.01)
    job = play(rounds=9, publish_if=gate)
    for loss, phase in ((3.0, "published"), (2.0, "published"), (2.1, "rolled_back")):
        job.trained(a=1.0)
        job.combine(validation_loss=loss)
        if phase == "published":
            (publish,) = job.wanted(actions.Publish)
            assert not publish.heard, "no device has seen it yet"
            job.send(events.Published(round=job.state.current.round))
        assert job.state.records[-2].phase == phase
    assert "2.1000, that of round 2 has 2.0000 on the hub's own text" in (
        job.state.records[2].reason
    )


def test_a_hub_without_text_cannot_judge_by_it(play: Start) -> None:
    job = play(publish_if=Gate(metric="validation_loss", max_regression=0.01))
    job.trained(a=1.0)
    assert job.combine().phase == "aggregating"
    assert len(job.combining()) == 1, "once more"
    assert job.combine().phase == "failed"
    assert job.state.reason == (
        "round 1 failed: its adapter was not measured on the hub's own text; "
        "this was the second attempt"
    )


def test_a_second_measurement_on_the_hubs_text_may_succeed(play: Start) -> None:
    job = play(publish_if=Gate(metric="validation_loss", max_regression=0.01))
    job.trained(a=1.0)
    job.combine()
    job.combine(validation_loss=2.0)
    assert [one.manifest for one in job.wanted(actions.Publish)] == ["adapter1"]
    assert job.send(events.Published(round=1)).adapter == "adapter1"


@pytest.mark.parametrize(("start_is_base", "phase"), [(True, "rolled_back"), (False, "published")])
def test_the_base_stands_for_a_start_that_changes_nothing(
    play: Start, start_is_base: bool, phase: str
) -> None:
    gate = Gate(metric="validation_loss", max_regression=0.01)
    job = play(publish_if=gate, start_is_base=start_is_base)
    job.trained(a=1.0)
    job.combine(validation_loss=3.0, validation_base_loss=2.0)
    job.send(events.Published(round=1))
    assert job.state.records[0].phase == phase


def test_the_last_round_is_rolled_back_into_the_final_evaluation(play: Start) -> None:
    job = play(rounds=1, publish_if=GATE)
    job.trained(a=3.0)
    job.combine()
    job.evaluators("a")
    job.candidate(a=4.0)
    assert (job.state.phase, job.state.current.round) == ("evaluating", 2)
    (offered,) = job.wanted(actions.OpenEvaluation)
    assert offered.candidate is None
    job.open(job.member("a", "evaluate"))
    job.evaluated("a", 2, adapter=(3.0, 10))
    assert (job.state.ended, job.state.adapter) == ("done", "start")


# What was sent for a round that was rolled back


def test_updates_of_a_rolled_back_round_never_happened_to_their_devices(gated: Any) -> None:
    """So the offer names the task before, and the device drops what it left out of this one."""
    assert last_accepted(gated.state, "a") == 1
    rolled_back(gated)
    assert last_accepted(gated.state, "a") == 1
    gated.trained(a=2.0, b=2.0)
    assert last_accepted(gated.state, "a") == 3


def test_late_updates_of_a_rolled_back_round_start_from_what_the_next_one_starts_from(
    gated: Any,
) -> None:
    gated.open("a", "b", at=200, min_updates=1)
    gated.update("a")
    gated.clock(300)
    gated.combine()
    gated.evaluators("a")
    gated.candidate(a=2.5)
    assert verdict(gated.state, "b", 2, gated.now).counts == "stale"
    gated.update("b", round_=2)
    gated.open("a")
    gated.update("a")
    (combine,) = gated.wanted(actions.Combine)
    assert [(one.device, one.round, one.start) for one in combine.updates] == [
        ("a", 3, "adapter1"),
        ("b", 2, "adapter1"),
    ]
    assert needed_adapters(gated.state) == {"start", "adapter1"}
    assert needed_states(gated.state) == {"state1"}


def test_an_update_that_came_late_into_a_rolled_back_round_is_undone_too(gated: Any) -> None:
    gated.open("a", "b", at=200, min_updates=1)
    gated.update("a")
    gated.clock(300)
    gated.combine()
    gated.evaluators("a", "b")
    gated.candidate(a=1.9, b=1.9)
    gated.send(events.Published(round=2))
    gated.open("a")
    gated.update("b", round_=2)
    assert last_accepted(gated.state, "b") == 2
    gated.update("a")
    gated.combine()
    gated.evaluators("a", "b")
    gated.candidate(a=2.5, b=2.5)
    assert last_accepted(gated.state, "b") == 1


def test_who_still_evaluates_when_the_next_round_begins_is_told_to_stop(gated: Any) -> None:
    gated.trained(a=2.0, b=2.0)
    gated.combine(at=50)
    gated.evaluators("a", "b")
    gated.send(events.Taken(round=2, device="b", candidate=True))
    gated.candidate(a=2.5)
    gated.clock(170)
    gated.open("a", "b")
    cancelled = [(c.round, c.device, c.candidate) for c in gated.wanted(actions.CancelTask)]
    assert cancelled == [(2, "b", True)]


def test_a_rolled_back_round_is_no_step_of_a_rule(gated: Any) -> None:
    rolled_back(gated)
    assert [gated.state.step(round_) for round_ in (1, 2, 3)] == [1, 2, 2]


# The stopping rule


def finish(job: Any) -> None:
    job.open(job.member("a", "evaluate"))
    job.evaluated("a", job.state.current.round, adapter=(1.0, 10))


def test_a_job_ends_when_the_loss_has_not_improved_for_so_many_rounds(play: Start) -> None:
    until = Until(metric="heldout_loss", patience=2, min_delta=0.1)
    job = play(rounds=20, publish_if=Gate(metric="heldout_loss", max_regression=1.0), until=until)
    before = 3.0
    # Round 2 improves by 0.1, rounds 3 and 4 by less than that to the best one.
    for loss in (2.5, 2.4, 2.35, 2.31):
        job.trained(a=before)
        job.combine()
        job.evaluators("a")
        job.candidate(a=loss)
        job.send(events.Published(round=job.state.current.round))
        before = loss
    assert (job.state.phase, job.state.last_round) == ("evaluating", 4)
    assert verdict(job.state, "a", 4, job.now).counts == "repeat"
    (told,) = job.wanted(actions.Announce)
    assert (told.round, told.adapter) == (4, "adapter4")
    finish(job)
    assert job.state.ended == "done"
    assert (
        job.state.reason
        == told.reason
        == ("stopped early: heldout_loss has not improved by 0.1 nats in 2 rounds, since round 2")
    )


def test_rolled_back_rounds_are_rounds_without_improvement(play: Start) -> None:
    until = Until(metric="heldout_loss", patience=1, min_delta=0.0)
    job = play(rounds=9, publish_if=GATE, until=until)
    job.trained(a=3.0)
    job.combine()
    job.evaluators("a")
    job.candidate(a=4.0)
    assert (job.state.phase, job.state.last_round, job.state.adapter) == ("evaluating", 1, "start")
    assert "since the start" in job.state.reason
    finish(job)
    assert job.state.ended == "done"


def test_without_a_gate_a_round_is_measured_when_the_next_one_begins(play: Start) -> None:
    """Round 1's 2.0 and round 2's 2.0 are known when round 3 is published."""
    job = play(rounds=20, until=Until(metric="heldout_loss", patience=1, min_delta=0.001))
    for measured in (3.0, 2.0, 2.0):
        assert job.state.phase == "open"
        job.trained(a=measured)
        job.publish()
    assert (job.state.phase, job.state.last_round) == ("evaluating", 3)
    finish(job)
    assert (job.state.ended, job.state.adapter) == ("done", "adapter3")


def test_the_last_round_is_no_early_end(play: Start) -> None:
    job = play(rounds=1, until=Until(metric="validation_loss", patience=1, min_delta=0.5))
    job.trained(a=3.0)
    job.combine(validation_loss=1.0)
    job.send(events.Published(round=1))
    finish(job)
    assert (job.state.ended, job.state.reason) == ("done", "")
