"""Top-k keeps the largest entries: its bytes by hand, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.codecs import by_name
from wire.codecs.contract import Array
from wire.errors import MalformedError

TOPK = by_name("topk")
HEAD = bytes.fromhex("00000040 00000000 03000000 00")  # 2.0, 0.0, three entries, no lower bits


def packed(tensor: Array) -> bytes:
    return TOPK.compress(tensor, np.random.default_rng(0))


def there_and_back(values: Array) -> Array:
    return TOPK.expand(packed(values), values.shape)


def test_the_bytes_by_hand() -> None:
    # Entries 1, 4 and 6 of 8: gaps 1, 2, 1, in unary 01 001 01. Signs 0 1 0. All are level 0,
    # which is 1 in unary: 010 0100101 111, filled up with zeros.
    tensor = np.array([0, 2, 0, 0, -2, 0, 2, 0], np.float32)
    data = HEAD + bytes([0b01001001, 0b01111000])
    assert packed(tensor) == data
    assert np.array_equal(TOPK.expand(data, (8,)), tensor)


def test_magnitudes_are_counted_in_steps_of_their_mean_excess() -> None:
    # Excess 0, 0, 0, 4 over 1: the mean is 1, so that 5 is level 4, and nothing is lost.
    tensor = np.array([1, -1, 1, -5], np.float32)
    assert np.array_equal(there_and_back(tensor), tensor)
    # Excess 0, 1, 2, the mean is 1 again: levels 0, 1, 2 of 0.5.
    tensor = np.array([0.5, 1.5, -2.5], np.float32)
    assert np.array_equal(there_and_back(tensor), tensor)
    # Excess 0, 1, 5: steps of 2, levels 0, 0, 2. What fits best is the mean of 1, 2, 6 - 4.
    assert there_and_back(np.array([1, 2, 6], np.float32)) == pytest.approx([5 / 3, 5 / 3, 17 / 3])


def test_one_entry_in_thirty_two_is_kept_and_eight_at_least() -> None:
    normal = np.random.default_rng(1).standard_normal(3200).astype(np.float32)
    kept = np.flatnonzero(there_and_back(normal))
    assert np.array_equal(kept, np.sort(np.argsort(-np.abs(normal))[:100]))
    assert np.count_nonzero(there_and_back(normal[:40])) == 8


def test_of_equal_entries_the_first_are_kept() -> None:
    assert np.flatnonzero(there_and_back(np.ones(40, np.float32))).tolist() == list(range(8))


def test_zeros_take_no_bytes_and_are_never_kept() -> None:
    assert packed(np.zeros(100, np.float32)) == b""
    tensor = np.zeros(1000, np.float32)
    tensor[7] = -3
    assert np.array_equal(there_and_back(tensor), tensor)


@pytest.mark.parametrize("kind", ["standard_normal", "laplace", "standard_cauchy", "uniform"])
def test_it_is_a_contraction_as_error_feedback_needs_it(kind: str) -> None:
    # Stich et al. 2018, definition 2.1: |x - x'|^2 <= (1 - k/n) |x|^2.
    x = getattr(np.random.default_rng(2), kind)(size=6400).astype(np.float32)
    lost = float(np.square(there_and_back(x) - x, dtype=np.float64).sum())
    assert lost <= (1 - 1 / 32) * float(np.square(x, dtype=np.float64).sum())


def test_the_largest_numbers_stay_finite() -> None:
    largest = np.finfo(np.float32).max
    tensor = np.array([largest, -largest, largest / 3, 1, 1, 1], np.float32)
    assert np.isfinite(there_and_back(tensor)).all()


def damaged(at: int, value: int) -> bytes:
    data = bytearray(HEAD + bytes([0b01001001, 0b01111000]))
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        HEAD,  # nothing but the head
        HEAD[:-1],
        damaged(8, 0),  # no entry at all
        damaged(8, 9),  # more than eight of eight
        damaged(8, 2),  # fewer than there are ones
        damaged(8, 4),
        damaged(11, 255),  # four thousand million
        damaged(12, 5),  # more lower bits than a place has
        damaged(12, 255),
        damaged(14, 0b01111100),  # one more one than there are numbers
        damaged(14, 0b01110000),  # one fewer
        damaged(13, 0b01000000),  # a place behind the end
        HEAD + bytes([0b01001001, 0b01111000, 0]),  # a byte too many
        HEAD + bytes(1000),
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        TOPK.expand(data, (8,))


def test_places_beyond_the_tensor_are_refused() -> None:
    data = HEAD + bytes([0b01001001, 0b01111000])  # its last place is 6
    assert TOPK.expand(data, (7,))[6] == 2
    with pytest.raises(MalformedError, match="outside"):
        TOPK.expand(data, (6,))


@given(data=st.data(), count=st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_mutated_bytes_are_refused_or_expand_within_the_tensor(
    data: st.DataObject, count: int
) -> None:
    tensor = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    good = bytearray(packed(tensor))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = TOPK.expand(bytes(good), tensor.shape)
    except MalformedError:
        return
    assert found.shape == tensor.shape
    assert np.count_nonzero(found) <= max(8, -(-count // 32))
