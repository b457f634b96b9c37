"""Held-out losses."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import events
from hub.rounds.losses import (
    adapter_losses,
    base_loss,
    heldout_losses,
    spread,
    starts,
    weighted_mean,
    without_prompt_losses,
    worst_tenth,
)
from wire.messages.requests import Evaluation

Start = Callable[..., Any]


def test_losses_are_weighted_by_tokens_and_belong_to_the_adapter_before_the_round(
    play: Start,
) -> None:
    job = play(rounds=1)
    job.open("a", "b", at=0)
    job.evaluated("a", 1, base=(4.0, 100), adapter=(3.0, 100))
    job.evaluated("b", 1, base=(2.0, 300), adapter=(2.0, 300))
    job.update("a", at=1)
    job.update("b", at=2)
    job.publish(at=3)
    job.open(job.member("a", "evaluate"), job.member("b", "evaluate"), at=4)
    job.evaluated("a", 2, adapter=(1.0, 100), without_prompt=(1.5, 100))
    # base (400 + 600) / 400; start (300 + 600) / 400; after round 1 only a so far
    assert base_loss(job.state) == pytest.approx(2.5)
    assert heldout_losses(job.state) == [pytest.approx(2.25), pytest.approx(1.0)]
    assert without_prompt_losses(job.state)["a"].loss == 1.5


def test_a_round_nobody_measured_has_no_loss(play: Start) -> None:
    job = play()
    assert heldout_losses(job.state) == [None]
    assert base_loss(job.state) is None


def test_the_newest_loss_of_the_base_counts(play: Start) -> None:
    job = play()
    job.open("a", at=0)
    job.evaluated("a", 1, base=(4.0, 100))
    job.update("a", at=1)
    job.publish(at=2)
    job.open("a", at=3)
    job.evaluated("a", 2, base=(5.0, 10))
    assert base_loss(job.state) == 5.0


def test_what_was_measured_with_a_part_of_the_components_is_left_out() -> None:
    whole = Evaluation(variant="adapter", loss=2.0, tokens=100)
    part = Evaluation(variant="adapter", loss=9.0, tokens=100, rank=4)
    assert weighted_mean([whole, part]) == 2.0
    assert weighted_mean([part]) is None
    assert worst_tenth([whole, part]) == 2.0
    assert spread([whole, part]) == 0.0
    assert worst_tenth([part]) is None
    assert spread([part]) is None


def losses(*values: float) -> list[Evaluation]:
    return [Evaluation(variant="adapter", loss=one, tokens=1 + int(one)) for one in values]


def test_the_worst_tenth_are_devices_not_tokens() -> None:
    assert worst_tenth(losses(1.0, 3.0, 2.0)) == 3.0  # at least one
    assert worst_tenth(losses(*range(10))) == 9.0
    assert worst_tenth(losses(*range(11))) == 9.5  # 10 and 9
    assert worst_tenth(losses(*range(20))) == 18.5


def test_the_spread_is_the_standard_deviation_over_devices() -> None:
    # The eight numbers of Wikipedia's "Standard deviation": mean 5, deviation 2.
    assert spread(losses(2, 4, 4, 4, 5, 5, 7, 9)) == 2.0


def test_after_a_roll_back_the_adapter_before_is_measured_again(play: Start) -> None:
    job = play(rounds=3, publish_if=events.Gate(metric="heldout_loss", max_regression=0.0))
    job.trained(a=3.0)
    job.combine()
    job.evaluators("a")
    job.candidate(a=4.0)
    assert starts(job.state) == [0, 0]
    job.open("a", "b")
    job.evaluated("b", 2, adapter=(1.0, 10))
    # The start's loss is a's 3.0 of round 1 and b's 1.0 of round 2.
    assert heldout_losses(job.state) == [2.0, 2.0]
    assert {device: one.loss for device, one in adapter_losses(job.state, 1).items()} == {"a": 4.0}
    assert adapter_losses(job.state, 7) == {}
