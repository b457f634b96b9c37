"""Directions of updates without backprop, the steps along them, and the bytes that they travel in.

The expected signs come from Sylvester's construction of Walsh-Hadamard matrices by hand.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.directions import bits, order
from wire.errors import MalformedError, TooLargeError
from wire.forward_only import (
    MAX_DIRECTIONS,
    MOST_BYTES,
    VERSION,
    Moves,
    pack_steps,
    parse_steps,
    replay,
    rounded,
)


def directions(seed: int, sides: list[int], count: int) -> list[np.ndarray]:
    moves, found = Moves(seed, sides), []
    for _ in range(count):
        found.append(moves.along(1.0))
        moves.step(0.0)
    return found


def test_a_cores_directions_are_walsh_rows_with_drawn_signs() -> None:
    signs = 1.0 - 2.0 * bits(7, 1 << 32, 0, 4)
    rows = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    np.testing.assert_array_equal(directions(7, [2], 4), rows * signs)


def test_each_pass_meets_every_core_once_in_a_drawn_order() -> None:
    moves, met = Moves(3, [2, 1, 2, 1]), []
    for _ in range(8):
        met.append(moves.core)
        moves.step(0.0)
    assert met[:4] == order(3, 0, 4).tolist()
    assert met[4:] == order(3, 1, 4).tolist()
    assert sorted(met[:4]) == [0, 1, 2, 3]


def test_a_core_of_nine_entries_moves_eight_of_them() -> None:
    # 8 is the greatest power of two up to 3 × 3.
    found = np.array(directions(1, [3], 8))
    assert not found[:, 8].any()
    np.testing.assert_array_equal(found[:, :8] @ found[:, :8].T, 8 * np.eye(8))


def test_the_next_sweep_draws_other_signs() -> None:
    found = np.array(directions(7, [4], 32))
    np.testing.assert_array_equal(found[:16] @ found[:16].T, 16 * np.eye(16))
    assert (found[:16] != found[16:]).any()


def test_steps_add_up() -> None:
    signs = 1.0 - 2.0 * bits(7, 1 << 32, 0, 4)
    moves = replay(7, [2], [0.5, -0.25, 0.125])
    # 0.5 - 0.25 + 0.125, 0.5 + 0.25 + 0.125, 0.5 - 0.25 - 0.125, 0.5 + 0.25 - 0.125
    np.testing.assert_array_equal(moves.values(), [0.375, 0.875, 0.125, 0.625] * signs)
    # √((0.140625 + 0.765625 + 0.015625 + 0.390625) / 4)
    assert moves.rms() == pytest.approx(0.572822, abs=1e-6)
    # The fourth row is 1, -1, -1, 1: 1.375, -0.125, -0.875, 1.625.
    assert moves.rms_along(1.0) == pytest.approx(np.sqrt(5.3125 / 4))


def test_what_a_device_goes_along_is_what_is_replayed_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    steps = [rounded(value) for value in rng.normal(0, 0.01, 200)]
    device = Moves(99, [2, 3, 4])
    for step in steps:
        seen = device.along(step)
        device.step(step)
        np.testing.assert_array_equal(seen, device.values())
    hub = replay(99, [2, 3, 4], parse_steps(pack_steps(steps), 200))
    assert hub.values().tobytes() == device.values().tobytes()


def test_without_a_core_there_is_no_direction() -> None:
    with pytest.raises(ValueError, match="side"):
        Moves(1, [])


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1))
def test_steps_survive_the_way(steps: list[float]) -> None:
    steps = steps[:MAX_DIRECTIONS]
    data = pack_steps(steps)
    assert len(data) == 6 + 2 * len(steps) <= MOST_BYTES <= 1024
    assert parse_steps(data, len(steps)) == steps


@pytest.mark.parametrize("steps", [[], [0.0] * (MAX_DIRECTIONS + 1), [0.1], [np.inf], [np.nan]])
def test_what_would_not_arrive_as_it_is_is_not_sent(steps: list[float]) -> None:
    with pytest.raises(ValueError, match="step"):
        pack_steps(steps)


GOOD = pack_steps([0.5, -1.0])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begin with"),
        (b"LKP\x02" + GOOD[4:], "begin with"),
        (GOOD[:3] + bytes([VERSION + 1]) + GOOD[4:], "Update the older side"),
        (GOOD[:5], "begin with"),
        (GOOD[:-1], "2 each"),
        (GOOD + b"\0", "2 each"),
        (GOOD[:-2] + np.float16(np.nan).tobytes(), "NaN"),
        (GOOD[:-2] + np.float16(np.inf).tobytes(), "NaN"),
    ],
)
def test_other_bytes_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        parse_steps(data, 2)


def test_more_steps_than_were_asked_for_are_refused() -> None:
    with pytest.raises(TooLargeError, match="1 to 1 may come"):
        parse_steps(GOOD, 1)
    with pytest.raises(TooLargeError, match="there are 0"):
        parse_steps(GOOD[:4] + b"\0\0", 2)
