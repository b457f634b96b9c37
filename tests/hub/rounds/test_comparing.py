"""Adapters side by side."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import events
from hub.rounds.comparing import Trend, compare, is_measured, trend
from hub.rounds.state import Comparison
from wire.messages import Evaluation

Start = Callable[..., Any]


def measure(job: Any, loss: tuple[float, int], **others: tuple[float, int]) -> None:
    """Play a round; its devices, ``a`` among them, measure what it begins with."""
    found = {"a": loss, **others}
    job.open(*found)
    for device, one in found.items():
        job.evaluated(device, job.state.current.round, adapter=one)
        job.update(device)
    job.publish()


def test_the_same_devices_count_with_the_same_weights(play: Start) -> None:
    """b has ten times the text when it measures the second one, and c came later."""
    job = play(rounds=9)
    measure(job, (3.0, 10), b=(1.0, 10))
    measure(job, (2.0, 10), b=(1.0, 100), c=(9.0, 500))
    found = compare(job.state, "heldout_loss", 1, 0)
    assert found == Comparison(
        metric="heldout_loss",
        loss=pytest.approx(12 / 11),  # (2 × 10 + 1 × 100) / 110
        reference=pytest.approx(13 / 11),  # (3 × 10 + 1 × 100) / 110
        reference_round=0,
        devices=2,
    )
    assert found.regression == pytest.approx(-1 / 13)


def test_the_worst_tenth_of_each_may_be_another_device(play: Start) -> None:
    job = play(rounds=9)
    measure(job, (3.0, 10), b=(1.0, 10))
    measure(job, (0.5, 10), b=(3.5, 10))
    found = compare(job.state, "worst_tenth", 1, 0)
    assert found is not None
    assert (found.loss, found.reference) == (3.5, 3.0)


def test_what_was_measured_with_some_components_is_not_compared(play: Start) -> None:
    job = play(rounds=9)
    measure(job, (3.0, 10))
    job.open("a")
    part = Evaluation(variant="adapter", loss=1.0, tokens=10, rank=2)
    job.send(events.Evaluated(round=2, device="a", evaluations=(part,)))
    assert compare(job.state, "heldout_loss", 1, 0) is None
    assert not is_measured(job.state, "heldout_loss", 1)


def test_nobody_who_measured_both_is_no_comparison(play: Start) -> None:
    job = play(rounds=9)
    measure(job, (3.0, 10))
    job.open("b")
    job.evaluated("b", 2, adapter=(1.0, 10))
    assert compare(job.state, "heldout_loss", 1, 0) is None
    assert is_measured(job.state, "heldout_loss", 1)


def test_the_hubs_own_text_is_read_from_the_rounds_record(play: Start) -> None:
    job = play(rounds=9)
    for loss in (2.0, 1.5):
        job.trained(a=1.0)
        job.combine(validation_loss=loss)
        job.send(events.Published(round=job.state.current.round))
    found = compare(job.state, "validation_loss", 2, 1)
    assert found is not None
    assert (found.loss, found.reference, found.devices) == (1.5, 2.0, 0)
    assert compare(job.state, "validation_loss", 1, 0) is None


def test_a_loss_of_zero_is_no_trouble() -> None:
    def regression(loss: float) -> float:
        found = Comparison(
            metric="heldout_loss", loss=loss, reference=0.0, reference_round=1, devices=1
        )
        return found.regression

    assert (regression(0.0), regression(0.1)) == (0.0, float("inf"))


def test_a_trend_counts_rounds_since_the_last_real_improvement(play: Start) -> None:
    """Measured one round later: 2.0 after round 1, 1.95, 1.8, 1.79."""
    job = play(rounds=9)
    for loss in (3.0, 2.0, 1.95, 1.8, 1.79):
        measure(job, (loss, 10))
    assert trend(job.state, "heldout_loss", 0.1) == Trend(best=3, rounds=1)
    assert trend(job.state, "heldout_loss", 0.01) == Trend(best=4, rounds=0)
    assert trend(job.state, "heldout_loss", 5.0) == Trend(best=0, rounds=4)


def test_a_fleet_that_was_exchanged_begins_a_trend_anew(play: Start) -> None:
    job = play(rounds=9)
    measure(job, (3.0, 10))
    measure(job, (2.0, 10))
    for loss in (7.0, 7.0):
        job.open("x")
        job.evaluated("x", job.state.current.round, adapter=(loss, 10))
        job.update("x")
        job.publish()
    assert trend(job.state, "heldout_loss", 0.1) == Trend(best=2, rounds=1)


def test_the_first_loss_on_the_hubs_text_is_what_others_are_compared_with(play: Start) -> None:
    job = play(rounds=9)
    for loss in (2.0, 1.5, 1.5):
        job.trained(a=1.0)
        job.combine(validation_loss=loss)
        job.send(events.Published(round=job.state.current.round))
    assert trend(job.state, "validation_loss", 0.1) == Trend(best=2, rounds=1)
