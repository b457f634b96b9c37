"""Seeds and scalars: exact for what training without backprop makes, hardened for the rest."""

import numpy as np
import pytest

from wire.codecs import by_name
from wire.codecs.seeds import MOST_DIRECTIONS, pack_scalars
from wire.directions import direction
from wire.errors import MalformedError

SEEDS = by_name("seeds")
SEED = 0x0123456789ABCDEF


def moved(seed: int, scalars: list[float], count: int) -> np.ndarray:
    """Return what a trainer that goes along directions comes to, in double precision."""
    steps = [c * direction(seed, i, count).astype(np.float64) for i, c in enumerate(scalars)]
    return np.sum(steps, axis=0)


def test_the_bytes_of_scalars_by_hand() -> None:
    # The seed from its last byte on; 1.0 and -2.0 as float32.
    data = pack_scalars(SEED, [1.0, -2.0], (3, 4))
    assert data == bytes.fromhex("efcdab8967452301 0000803f 000000c0")


def test_scalars_expand_to_the_sum_of_their_directions() -> None:
    scalars = [0.5, -0.25, 3.0]  # their sums have few bits: nothing is rounded
    tensor = SEEDS.expand(pack_scalars(SEED, scalars, (100, 7)), (100, 7))
    assert np.array_equal(tensor.ravel(), moved(SEED, scalars, 700))


def test_a_sum_is_rounded_once() -> None:
    scalars = np.random.default_rng(0).standard_normal(256).astype(np.float32).tolist()
    tensor = SEEDS.expand(pack_scalars(1, scalars, (500,)), (500,))
    exact = moved(1, scalars, 500)
    assert np.abs(tensor - exact).max() <= 0.5 * np.spacing(np.float32(np.abs(exact).max()))


@pytest.mark.parametrize("count", [9, 100, 640, 5000])
def test_a_tensor_in_the_span_is_exact_to_float32_rounding(count: int) -> None:
    # The codec draws its seed first: the same generator tells which.
    seed = int(np.random.default_rng(5).integers(0, 1 << 64, dtype=np.uint64))
    scalars = np.random.default_rng(6).standard_normal(max(8, -(-count // 64))).tolist()
    tensor = moved(seed, scalars, count).astype(np.float32)
    back = SEEDS.expand(SEEDS.compress(tensor, np.random.default_rng(5)), (count,))
    # Scalars in float32, each entry a sum of them: an ulp of the largest for each scalar at most.
    ulp = np.spacing(np.float32(np.abs(tensor).max()))
    assert np.abs(back - tensor).max() <= len(scalars) * ulp


def test_any_other_tensor_keeps_the_part_in_the_span() -> None:
    # d of n dimensions hold d / n of the energy: 50 of 3200, a sixty-fourth, and a third to spare.
    x = np.random.default_rng(7).standard_normal(3200).astype(np.float32)
    back = SEEDS.expand(SEEDS.compress(x, np.random.default_rng(0)), x.shape)
    kept = 1 - float(np.square(x - back).sum() / np.square(x).sum())
    assert kept == pytest.approx(1 / 64, rel=0.35)


def test_a_few_entries_travel_as_they_are() -> None:
    x = np.array([0.1, -7.0, 1e-30], np.float32)
    data = SEEDS.compress(x, np.random.default_rng(0))
    assert data == x.tobytes()
    assert np.array_equal(SEEDS.expand(data, (3,)), x)


@pytest.mark.parametrize(
    ("scalars", "shape", "words"),
    [
        ([1.0] * 257, (1000,), "send 1 to 256"),
        ([1.0] * 10, (9,), "send 1 to 9"),
        ([], (1000,), "send 1 to 256"),
        ([1.0], (8,), "takes no seed"),
        ([float("nan")], (1000,), "NaN"),
        ([1e39], (1000,), "beyond float32"),
    ],
)
def test_scalars_that_can_not_travel_are_refused(
    scalars: list[float], shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        pack_scalars(SEED, scalars, shape)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        (8, 100),  # a seed alone
        (11, 100),
        (14, 100),  # half a scalar
        (8 + 4 * 101, 100),  # more scalars than entries
        (8 + 4 * (MOST_DIRECTIONS + 1), 10_000),  # more than a receiver works on
        (28, 8),
        (4, 8),
    ],
)
def test_other_bytes_are_refused_before_anything_is_added(size: int, count: int) -> None:
    with pytest.raises(MalformedError):
        SEEDS.expand(bytes([1]) * size, (count,))


def test_hostile_scalars_give_what_the_caller_can_refuse_or_finite_numbers() -> None:
    for scalar in (np.nan, np.inf, 3.4e38):
        data = bytes(8) + np.full(9, scalar, "<f4").tobytes()
        found = SEEDS.expand(data, (100,))
        assert found.shape == (100,)
        assert np.isnan(found).any() or np.abs(found).max() <= np.finfo(np.float32).max
