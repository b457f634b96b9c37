"""Directions are Random123's Philox, bit by bit, in whatever pieces they are made."""

import struct

import numpy as np
import pytest

from wire.directions import best_weights, bits, direction, weighted_sum

ONES = (1 << 64) - 1


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Return a block, by Salmon et al. 2011, section 4.3, with the constants of Random123."""
    x, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [
            second >> 64 ^ x[1] ^ k[0],
            second & ONES,
            first >> 64 ^ x[3] ^ k[1],
            first & ONES,
        ]
        k = [(k[0] + 0x9E3779B97F4A7C15) & ONES, (k[1] + 0xBB67AE8584CAA73B) & ONES]
    return x


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [  # Random123, tests/kat_vectors, philox4x64 with 10 rounds
        (
            [0, 0, 0, 0],
            [0, 0],
            [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B],
        ),
        (
            [ONES] * 4,
            [ONES] * 2,
            [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0],
        ),
        (
            [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
            [0x452821E638D01377, 0xBE5466CF34E90C6C],
            [0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6],
        ),
    ],
)
def test_the_comparison_is_random123s(counter: list[int], key: list[int], block: list[int]) -> None:
    assert philox4x64(counter, key) == block


@pytest.mark.parametrize(
    ("seed", "index", "block"),
    [(0, 0, 0), (7, 0, 0), (0, 7, 0), (7, 3, 5), (ONES, 2, 1), (1 << 63, ONES, 1 << 40)],
)
def test_a_block_of_a_direction_is_a_block_of_philox(seed: int, index: int, block: int) -> None:
    words = philox4x64([block, 0, 0, 0], [seed, index])
    found = bits(seed, index, 256 * block, 256 * (block + 1))
    assert np.packbits(found, bitorder="little").tobytes() == struct.pack("<4Q", *words)


def test_the_first_signs_by_hand() -> None:
    # The first word of seed 0 ends in 4c: 0100 1100, read from the right.
    assert direction(0, 0, 8).tolist() == [1, 1, -1, -1, 1, 1, -1, 1]


def test_a_direction_is_the_same_in_pieces() -> None:
    whole = bits(3, 1, 0, 1000)
    pieces = [bits(3, 1, 0, 256), bits(3, 1, 256, 512), bits(3, 1, 512, 1000)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(bits(3, 1, 0, 300), whole[:300])


def test_signs_are_even_and_directions_independent() -> None:
    # Sums of 100,000 signs have a standard deviation of 316.
    one, other, seed = (direction(*which, 100_000) for which in ((1, 0), (1, 1), (2, 0)))
    for sum_ in (one.sum(), one @ other, one @ seed):
        assert abs(float(sum_)) < 5 * 316


@pytest.mark.parametrize("which", [(-1, 0, 0, 1), (1 << 64, 0, 0, 1), (0, -1, 0, 1), (0, 0, 1, 2)])
def test_what_no_direction_has_is_refused(which: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be 0 to|multiple of 256"):
        bits(*which)


def test_a_weighted_sum_is_added_in_the_order_of_the_directions() -> None:
    count, weights = 70_000, [0.1, -3.0, 1e16, -1e16]  # in another order 0.1 would survive
    expected = np.zeros(count)
    for index, weight in enumerate(weights):
        expected = expected + weight * direction(5, index, count).astype(np.float64)
    assert np.array_equal(weighted_sum(5, weights, count), expected)


def test_the_weights_of_a_sum_are_found_again() -> None:
    weights = [0.25, -3.0, 0.0, 17.5]
    tensor = weighted_sum(11, weights, 5000).astype(np.float32).reshape(50, 100)
    assert best_weights(11, 4, tensor) == pytest.approx(weights, abs=1e-5)


def test_what_is_left_of_any_tensor_is_orthogonal_to_the_directions() -> None:
    tensor = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    found = best_weights(4, 6, tensor)
    left = tensor - weighted_sum(4, found.tolist(), 9000)
    for index in range(6):
        assert abs(float(left @ direction(4, index, 9000))) < 1e-3


def test_directions_that_repeat_themselves_leave_the_shortest_weights() -> None:
    # One entry: directions are +1 or -1, and each of the three carries a third.
    assert np.abs(best_weights(1, 3, np.array([6.0], np.float32))) == pytest.approx([2, 2, 2])
