"""Keys and values in slots, with numbers that tell where they belong."""

import numpy as np

from edge_agent.inference.onnx.cache import Cache, Piece
from edge_agent.inference.onnx.model import Sizes

SIZES = Sizes(layers=2, kv_heads=1, head_dim=1, hidden=4, vocabulary=9)


def piece(*rows: list[float]) -> Piece:
    """Return keys of so many rows, values their negatives, the same in both layers."""
    key = np.array(rows, np.float32)[:, None, :, None]
    return [(key, -key)] * SIZES.layers


def held(cache: Cache, slot: int) -> list[float]:
    (key, value), *_ = cache.past(slice(slot, slot + 1))
    np.testing.assert_array_equal(key, -value)
    return key[0, 0, : cache.lengths[slot], 0].tolist()


def test_sequences_grow_behind_what_stands_in_front() -> None:
    cache = Cache(SIZES, 2, piece([7.0, 8.0]))
    cache.reserve(4)
    cache.append(1, piece([1.0, 2.0, 9.0]), 0, 2)  # the third isn't wanted
    assert held(cache, 0) == [7.0, 8.0]
    assert held(cache, 1) == [7.0, 8.0, 1.0, 2.0]
    cache.reserve(500)
    cache.append(0, piece([3.0], [4.0]), 1, 1)
    assert held(cache, 0) == [7.0, 8.0, 4.0]
    assert held(cache, 1) == [7.0, 8.0, 1.0, 2.0]


def test_the_front_is_never_forgotten_and_nothing_is_made_up() -> None:
    cache = Cache(SIZES, 1, piece([7.0, 8.0]))
    cache.reserve(4)
    cache.append(0, piece([1.0, 2.0]), 0, 2)
    cache.keep(0, 5)
    assert held(cache, 0) == [7.0, 8.0, 1.0, 2.0]
    cache.keep(0, 1)
    assert held(cache, 0) == [7.0, 8.0, 1.0]
    cache.keep(0, 0)
    assert held(cache, 0) == [7.0, 8.0]


def test_slots_side_by_side_are_read_where_they_lie() -> None:
    cache = Cache(SIZES, 4)
    cache.reserve(3)
    (key, _), *_ = cache.past(slice(1, 3))
    cache.append(2, piece([5.0]), 0, 1)
    assert key[1, 0, 0, 0] == 5.0
    assert key.flags.c_contiguous
