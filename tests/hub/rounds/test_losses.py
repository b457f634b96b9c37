"""Held-out losses."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds.losses import base_loss, heldout_losses, weighted_mean, without_prompt_losses
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
