"""The coder gives back what it took, in little more than the entropy, and refuses all else."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.rans import decode, encode, frequencies, lane_count, most_bytes


def drawn(count: int, weights: list[float], seed: int = 0) -> np.ndarray:
    share = np.array(weights) / sum(weights)
    return np.random.default_rng(seed).choice(len(weights), size=count, p=share)


def counted(symbols: np.ndarray, kinds: int) -> np.ndarray:
    return frequencies(np.bincount(symbols, minlength=kinds))


def test_two_symbols_by_hand() -> None:
    # Frequencies 3072 and 1024 of 4096; one lane begins at 65536. Backwards, symbol 1 first:
    # 65536 // 1024 = 64 times 4096, plus 0, plus 3072 = 265216. Then symbol 0:
    # 265216 // 3072 = 86 times 4096, plus 1024 = 353280.
    data = encode(np.array([0, 1]), np.array([3072, 1024]))
    assert data == (353280).to_bytes(4, "little")
    assert decode(data, 2, np.array([3072, 1024])).tolist() == [0, 1]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=3000),
    st.integers(1, 40),
)
@settings(max_examples=80, deadline=None)
def test_what_was_coded_comes_back(values: list[int], times: int) -> None:
    symbols = np.tile(np.array(values), times)
    frequency = counted(symbols, 10)
    data = encode(symbols, frequency)
    assert len(data) <= most_bytes(len(symbols))
    assert np.array_equal(decode(data, len(symbols), frequency), symbols)


def test_nothing_takes_a_state_only() -> None:
    data = encode(np.zeros(0, dtype=np.int64), np.array([4096]))
    assert decode(data, 0, np.array([4096])).tolist() == []


def test_a_rare_symbol_costs_what_its_frequency_says() -> None:
    # One of 4096 costs 12 bits; the others next to nothing.
    symbols = np.zeros(40_960, dtype=np.int64)
    symbols[::4096] = 1
    data = encode(symbols, np.array([4095, 1]))
    states = 4 * lane_count(len(symbols))
    ideal = (10 * 12 + 40_950 * 0.000352) / 8  # -log2(4095 / 4096) = 0.000352
    assert ideal <= len(data) <= ideal + states


@pytest.mark.parametrize("count", [1, 1000, 2048, 2049, 100_000])
def test_it_comes_near_the_entropy(count: int) -> None:
    weights = [0.6, 0.2, 0.1, 0.06, 0.04]
    symbols = drawn(count, weights)
    frequency = counted(symbols, 5)
    share = np.bincount(symbols, minlength=5) / count
    entropy = -sum(p * np.log2(p) for p in share if p)
    bound = count * entropy / 8 * 1.005 + 6 * lane_count(count)
    assert len(encode(symbols, frequency)) <= bound


@pytest.mark.parametrize("count", [1, 2, 2047, 2049, 6145, 20_000])
def test_few_lanes_and_many_make_the_same_bytes(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = drawn(count, [0.6, 0.2, 0.1, 0.06, 0.04])
    frequency = counted(symbols, 5)
    by_symbol = encode(symbols, frequency)
    monkeypatch.setattr("wire.rans._FEW_LANES", 0)
    assert encode(symbols, frequency) == by_symbol
    assert decode(by_symbol, count, frequency).tolist() == symbols.tolist()


def test_the_bytes_are_the_same_everywhere() -> None:
    # Written down once; integers leave a machine no choice.
    symbols = (np.arange(5000) ** 2 // 7) % 5
    data = encode(symbols, np.array([1000, 1000, 1000, 1000, 96]))
    assert hashlib.sha256(data).hexdigest()[:16] == "0eab0c4aa4bc4814"


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=255).filter(any))
def test_frequencies_add_up_and_none_is_lost(counts: list[int]) -> None:
    found = frequencies(np.array(counts))
    assert found.sum() == 4096
    assert ((found > 0) == (np.array(counts) > 0)).all()


@given(st.binary(max_size=64), st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused_or_gives_symbols(data: bytes, count: int) -> None:
    try:
        found = decode(data, count, np.array([2000, 2000, 96]))
    except MalformedError:
        return
    assert len(found) == count
    assert encode(found, np.array([2000, 2000, 96])) == data


@pytest.mark.parametrize("change", [slice(0, -2), slice(0, 3), slice(2, None)])
def test_bytes_that_are_missing_are_noticed(change: slice) -> None:
    symbols = drawn(3000, [1.0, 1.0, 1.0])
    frequency = counted(symbols, 3)
    with pytest.raises(MalformedError):
        decode(encode(symbols, frequency)[change], 3000, frequency)


def test_bytes_too_many_are_noticed() -> None:
    symbols = drawn(3000, [1.0, 1.0, 1.0])
    frequency = counted(symbols, 3)
    with pytest.raises(MalformedError, match="do not end"):
        decode(encode(symbols, frequency) + b"\0\0", 3000, frequency)
