"""The error is of the outcome on disk, against dense matrices."""

from pathlib import Path

import pytest

from bench.relative_error import error_of

LAYERS = {"wide": (24, 40), "tall": (48, 20)}


def test_a_sum_within_the_rank_is_exact(tmp_path: Path) -> None:
    error, told = error_of(tmp_path, 3, LAYERS, [1, 5, 10])
    assert error <= 1e-5
    assert told <= 1e-5


def test_what_a_truncation_loses_is_seen_and_told_alike(tmp_path: Path) -> None:
    error, told = error_of(tmp_path, 3, LAYERS, [8, 12])  # rank 20 into 16
    assert error > 1e-3
    assert told == pytest.approx(error, rel=1e-4)
