"""Shares of updates by hand."""

import pytest

from hub.aggregation.contract import Trained
from hub.aggregation.weights import by_tokens, damped, evenly


def test_lateness_damps_by_the_root() -> None:
    assert [damped(rounds) for rounds in (0, 3, 8)] == pytest.approx([1, 1 / 2, 1 / 3])


def test_shares_by_tokens_and_lateness() -> None:
    # 100, 300, 400/2 of 600.
    updates = [Trained("a", 100, 0), Trained("b", 300, 0), Trained("c", 400, 3)]
    assert by_tokens(updates) == pytest.approx([1 / 6, 1 / 2, 1 / 3])


def test_even_shares() -> None:
    # 1, 1, 1/2 of 5/2.
    updates = [Trained("a", 100, 0), Trained("b", 300, 0), Trained("c", 400, 3)]
    assert evenly(updates) == pytest.approx([0.4, 0.4, 0.2])
