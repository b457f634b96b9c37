"""Every codec keeps its promises: sizes, error bound, determinism; plus answers worked by hand."""

import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wire.codecs import CODEC_NAMES, by_name, catalogue
from wire.errors import MalformedError

everything = pytest.mark.parametrize("name", CODEC_NAMES)
LARGEST = float(np.finfo(np.float32).max)
tensors = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40),
    elements=st.floats(-LARGEST, LARGEST, width=32),
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def expanded(name: str, values: list[float], seed: int = 0) -> list[float]:
    codec = by_name(name)
    tensor = np.array(values, dtype=np.float32)
    back = codec.expand(codec.compress(tensor, rng(seed)), tensor.shape)
    return [float(value) for value in back]


def test_the_codecs_of_this_version() -> None:
    assert CODEC_NAMES == ("bf16", "entropy", "int4", "int8", "raw", "seeds", "topk")


@everything
def test_a_codec_is_called_like_its_file(name: str) -> None:
    assert catalogue()[name].name == name


def test_an_unknown_codec_is_refused_with_the_known_names() -> None:
    with pytest.raises(
        MalformedError, match=r"'zip9'.*bf16, entropy, int4, int8, raw, seeds, topk"
    ):
        by_name("zip9")


def test_what_lies_in_the_folder_without_being_a_codec_is_not_one() -> None:
    with pytest.raises(MalformedError):
        by_name("contract")


@everything
@given(tensor=tensors)
@settings(max_examples=60, deadline=None)
def test_no_entry_is_further_off_than_the_bound(name: str, tensor: np.ndarray) -> None:
    codec = by_name(name)
    back = codec.expand(codec.compress(tensor, rng()), tensor.shape)
    assert back.dtype == np.float32
    assert back.shape == tensor.shape
    error = np.abs(back.astype(np.float64) - tensor.astype(np.float64))
    assert np.max(error, initial=0.0) <= codec.error_bound(tensor)


@everything
@given(tensor=tensors)
@settings(max_examples=30, deadline=None)
def test_no_tensor_takes_more_bytes_than_announced(name: str, tensor: np.ndarray) -> None:
    codec = by_name(name)
    assert len(codec.compress(tensor, rng())) <= codec.most_bytes(tensor.shape)


@everything
def test_the_same_seed_gives_the_same_bytes_and_the_input_stays_as_it_was(name: str) -> None:
    codec = by_name(name)
    tensor = rng(1).normal(size=(5, 77)).astype(np.float32)
    before = tensor.copy()
    assert codec.compress(tensor, rng(9)) == codec.compress(tensor, rng(9))
    assert np.array_equal(tensor, before)


@everything
def test_bits_per_parameter_are_those_of_a_large_normal_tensor(name: str) -> None:
    codec = by_name(name)
    data = codec.compress(rng(2).normal(size=(512, 256)).astype(np.float32), rng())
    assert 8 * len(data) / (512 * 256) == pytest.approx(codec.bits_per_parameter, rel=0.02)


@everything
def test_what_is_expanded_may_be_changed(name: str) -> None:
    codec = by_name(name)
    back = codec.expand(codec.compress(np.ones(3, np.float32), rng()), (3,))
    back += 1
    assert np.allclose(back, 2)


@everything
@given(data=st.binary(max_size=200), count=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused_or_expands_to_the_shape(name: str, data: bytes, count: int) -> None:
    codec = by_name(name)
    with suppress(MalformedError):
        assert codec.expand(data, (count,)).shape == (count,)


@everything
def test_a_transposed_tensor_keeps_its_order(name: str) -> None:
    codec = by_name(name)
    tensor = np.array([[1, 0, -1], [0, 1, 0]], np.float32).T
    assert np.array_equal(codec.expand(codec.compress(tensor, rng()), (3, 2)), tensor)


@everything
def test_a_large_tensor_in_another_order_of_memory_is_the_same_tensor(name: str) -> None:
    codec = by_name(name)
    tensor = rng(4).normal(size=(60, 50)).astype(np.float32)
    turned = np.asfortranarray(tensor)
    assert codec.compress(turned, rng(1)) == codec.compress(tensor, rng(1))


def test_codecs_that_forget_say_so() -> None:
    assert {name for name, codec in catalogue().items() if codec.biased} == {"seeds", "topk"}


def test_raw_loses_nothing() -> None:
    assert expanded("raw", [1.5, -0.1, 3e38]) == np.array([1.5, -0.1, 3e38], np.float32).tolist()


def test_bf16_keeps_eight_bits_of_significand() -> None:
    # Between 1 and 2 an ulp is 2^-7 = 0.0078125. 1.01 lies nearer to 1 + 1 ulp than to 1 + 2.
    assert expanded("bf16", [1.0, 1.01, -1.01]) == [1.0, 1.0078125, -1.0078125]


def test_bf16_rounds_ties_to_even() -> None:
    # Half an ulp above 1 (even) goes down; half an ulp above 1 + 1 ulp (odd) goes up to 1 + 2 ulp.
    assert expanded("bf16", [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20]) == [
        1.0,
        1 + 2**-6,
        1 + 2**-7,
    ]


def test_bf16_stores_the_upper_half_of_the_float() -> None:
    # -2.5 is 0xC0200000 (IEEE 754): sign 1, exponent 128, significand 1.25.
    assert by_name("bf16").compress(np.array([-2.5], np.float32), rng()) == b"\x20\xc0"


def test_bf16_never_makes_a_number_infinite() -> None:
    # The largest bfloat16 is (2 - 2^-7) * 2^127.
    assert expanded("bf16", [LARGEST, -LARGEST]) == [
        (2 - 2**-7) * 2.0**127,
        -(2 - 2**-7) * 2.0**127,
    ]


def test_int8_leaves_numbers_on_its_grid_alone() -> None:
    # The largest is 254, so a quantum is 2: 127, -50 and 1 quanta, for any seed.
    for seed in range(20):
        assert expanded("int8", [254.0, -100.0, 2.0], seed) == [254.0, -100.0, 2.0]


def test_int8_rounds_up_as_often_as_the_fraction_says() -> None:
    # Quantum 1. 0.25 becomes 0 or 1; the mean of 6,300 draws has a standard error of
    # sqrt(0.25 * 0.75 / 6300) = 0.0055, so 0.03 is more than five of them.
    tensor = np.full(6400, 0.25, np.float32)
    tensor[::64] = 127.0
    codec = by_name("int8")
    back = codec.expand(codec.compress(tensor, rng(3)), tensor.shape)
    drawn = back[tensor < 1]
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert math.isclose(float(drawn.mean()), 0.25, abs_tol=0.03)


def test_int8_negative_fractions_go_either_way_too() -> None:
    # -0.75 lies between -1 (three times in four) and 0.
    tensor = np.full(6400, -0.75, np.float32)
    tensor[::64] = 127.0
    codec = by_name("int8")
    back = codec.expand(codec.compress(tensor, rng(3)), tensor.shape)
    assert math.isclose(float(back[tensor < 1].mean()), -0.75, abs_tol=0.03)


def test_int8_one_large_entry_coarsens_only_its_own_block() -> None:
    # Block 1: absmax 12.7e6. Block 2: absmax 127, so 3 is on its grid and stays.
    values = [12.7e6] + [0.0] * 63 + [127.0, 3.0]
    assert expanded("int8", values)[64:] == [127.0, 3.0]
    data = by_name("int8").compress(np.array(values, np.float32), rng())
    assert np.frombuffer(data, "<f4", count=2).tolist() == [100000.0, 1.0]


def test_int8_bound_is_one_quantum() -> None:
    bound = by_name("int8").error_bound(np.array([254.0, 1.0], np.float32))
    assert bound == pytest.approx(254 / 127, rel=1e-4)


def test_int8_zeros_stay_zeros() -> None:
    assert expanded("int8", [0.0, 0.0, 0.0]) == [0.0, 0.0, 0.0]


def test_int8_hostile_scales_give_what_the_caller_can_refuse() -> None:
    data = np.array([np.inf], "<f4").tobytes() + bytes([1, 0, 127])
    assert not np.isfinite(by_name("int8").expand(data, (3,))).all()


def test_int4_puts_two_integers_in_a_byte_the_first_in_its_lower_half() -> None:
    # The largest is 7, so a quantum is 1: 7, -7, 1 in two's complement are 0x7, 0x9, 0x1.
    data = by_name("int4").compress(np.array([7.0, -7.0, 1.0], np.float32), rng())
    assert data == np.array([1.0], "<f4").tobytes() + b"\x97\x01"
    assert expanded("int4", [7.0, -7.0, 1.0]) == [7.0, -7.0, 1.0]


def test_int4_is_right_on_average() -> None:
    # As for int8: 6,300 draws of 0 or 1, three in four of them 0.
    tensor = np.full(6400, 0.25, np.float32)
    tensor[::64] = 7.0
    codec = by_name("int4")
    back = codec.expand(codec.compress(tensor, rng(3)), tensor.shape)
    assert math.isclose(float(back[tensor < 1].mean()), 0.25, abs_tol=0.03)


def test_entropy_of_a_tensor_by_hand() -> None:
    # Root mean square sqrt((9 + 9 + 0 + 0 + 0 + 0) / 6) = 1.732, a step is 3.464: levels 1, -1, 0.
    # The scale is (9 + 9) / (3 + 3) = 3, so that nothing at all is lost.
    values = [3.0, -3.0, 0.0, 0.0, 0.0, 0.0]
    assert expanded("entropy", values) == values
    data = by_name("entropy").compress(np.array(values, np.float32), rng())
    assert np.frombuffer(data, "<f4", count=1)[0] == 3.0
    # One level; each sign of it is one entry in six: 4096 / 6 = 683.
    assert data[4] == 1
    assert abs(int.from_bytes(data[5:7], "little") - 683) <= 1


def test_entropy_of_zeros_takes_no_bytes() -> None:
    assert by_name("entropy").compress(np.zeros((4, 4), np.float32), rng()) == b""
    assert expanded("entropy", [0.0, 0.0]) == [0.0, 0.0]


def test_entropy_comes_within_four_percent_of_the_entropy() -> None:
    # Levels of a normal distribution at steps of two standard deviations, by the error function.
    def between(low: float, high: float) -> float:
        return 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))

    shares = [between((k - 0.5) * 2.0, (k + 0.5) * 2.0) for k in range(-4, 5)]
    entropy = -sum(share * math.log2(share) for share in shares)
    count = 200_000
    data = by_name("entropy").compress(rng(5).normal(size=count).astype(np.float32), rng())
    assert entropy < 8 * len(data) / count < 1.04 * entropy


def test_entropy_keeps_the_part_along_itself() -> None:
    x = rng(6).normal(size=5000).astype(np.float32)
    codec = by_name("entropy")
    y = codec.expand(codec.compress(x, rng()), x.shape)
    assert float(x @ y) == pytest.approx(float(x @ x), rel=1e-4)


def test_entropy_of_signs_alone_loses_nothing_for_a_bit_each() -> None:
    # All entries lie half a step out: levels 1 and -1, no zeros, and the scale is their magnitude.
    signs = np.where(rng(7).random(20_000) < 0.5, -0.125, 0.125).astype(np.float32)
    codec = by_name("entropy")
    data = codec.compress(signs, rng())
    assert np.array_equal(codec.expand(data, signs.shape), signs)
    assert 8 * len(data) / signs.size < 1.03


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\x80?",  # ends behind the scale
        b"\0\0\x80?\0\0\0\0\0",  # no level
        b"\0\0\x80?\xff" + b"\1\0" * 255,  # too many
        b"\0\0\x80?\1\xff\xff" + bytes(8),  # frequencies beyond 4096
        b"\0\0\x80?\1\0\1" + bytes(2),  # the state is cut off
    ],
)
def test_entropy_of_other_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        by_name("entropy").expand(data, (6,))
