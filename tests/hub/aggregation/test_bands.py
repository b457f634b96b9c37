"""Which components belong together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.aggregation.bands import bands, slices, spans
from wire.transfer import CHUNK_BYTES


@pytest.mark.parametrize(
    ("rank", "expected"),
    [(0, []), (1, [1]), (2, [1, 1]), (3, [1, 2]), (12, [1, 2, 3, 6]), (16, [1, 1, 2, 4, 8])],
)
def test_ranks_halve_from_the_jobs_on(rank: int, expected: list[int]) -> None:
    assert bands(rank) == expected


def test_spans_stand_one_behind_the_other() -> None:
    assert spans([1, 2, 3]) == [(0, 1), (1, 3), (3, 6)]
    assert spans([]) == []


def test_a_small_adapter_is_one_slice() -> None:
    # 163,840 numbers at 1.25 bits are 25,600 bytes: less than half of a chunk.
    assert slices(16, 10_240) == [16]


def test_a_slice_fills_a_chunk() -> None:
    # TinyLlama-1.1B: 788,480 numbers a rank, so 123,200 bytes: each component fills a chunk.
    assert slices(16, 788_480) == [1, 1, 2, 4, 8]
    # 65,536 bytes are 419,430 numbers: just over four components of 100,000 each.
    assert slices(16, 100_000) == [8, 8]


@given(rank=st.integers(1, 4096), numbers=st.integers(1, 10_000_000))
def test_slices_are_all_components_in_whole_bands(rank: int, numbers: int) -> None:
    found = slices(rank, numbers)
    assert sum(found) == rank
    assert {stop for _, stop in spans(found)} <= {stop for _, stop in spans(bands(rank))}
    if len(found) > 1:
        assert all(size * numbers * 1.25 / 8 >= CHUNK_BYTES for size in found)
