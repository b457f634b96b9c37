"""How a row is cut, and what its pieces' losses are, by hand."""

from itertools import pairwise

import numpy as np
import pytest

from edge_agent.inference.onnx import reading


def test_pieces_end_before_there_would_be_too_many_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Position i tells token i + 1, so a row is read up to the last wanted one, without it."""
    monkeypatch.setattr(reading, "PIECE_TOKENS", 4)
    monkeypatch.setattr(reading, "PIECE_LOGITS", 20)
    monkeypatch.setattr(reading, "_LEAST_ROWS", 1)
    # Vocabulary 10: two logits at a time.
    assert list(reading._pieces([1, 2, 3, 4, 5], 10)) == [(0, 2), (2, 4), (4, 5)]
    # Far apart: four tokens at a time.
    assert list(reading._pieces([9], 10)) == [(0, 4), (4, 8), (8, 9)]
    assert list(reading._pieces([], 10)) == []


def test_every_wanted_position_falls_into_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE_TOKENS", 7)
    monkeypatch.setattr(reading, "PIECE_LOGITS", 30)
    monkeypatch.setattr(reading, "_LEAST_ROWS", 1)
    rng = np.random.default_rng(5)
    for _ in range(50):
        wanted = sorted(rng.choice(np.arange(1, 40), size=rng.integers(1, 30), replace=False))
        pieces = list(reading._pieces([int(at) for at in wanted], 10))
        assert pieces[0][0] == 0
        assert pieces[-1][1] == wanted[-1]
        for (_, stop), (start, _) in pairwise(pieces):
            assert stop == start
        counts = [sum(start < at <= stop for at in wanted) for start, stop in pieces]
        assert sum(counts) == len(wanted)
        assert max(counts) <= 3
        assert all(stop - start <= 7 for start, stop in pieces)


def test_a_loss_by_hand() -> None:
    """-log 1/2 of two equal logits, and -log(e / (e + 1))."""
    logits = np.array([[3.0, 3.0], [1.0, 0.0]], np.float32)
    found = reading._negative_log_likelihood(logits, [1, 0])
    assert found == pytest.approx(np.log(2.0) + np.log(1 + np.exp(-1.0)))
