"""Range asymmetric numeral systems: symbols of known frequencies in close to their entropy.

Duda, 2013, *Asymmetric numeral systems* (arXiv 1311.2540), in the form of Giesen, 2014,
*Interleaved entropy coders* (arXiv 1402.3392): several states take turns, here as the lanes of a
numpy array. Integers only, so that every machine writes and reads the same bytes.
"""

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError

#: Frequencies add up to two to this power.
PRECISION_BITS = 12
_TOTAL = 1 << PRECISION_BITS
#: States lie between this and 2**32; below it, a word of 16 bits is taken in.
_LOWEST = 1 << 16
_WORD_BITS = 16
#: Symbols of one lane, about: each lane costs four bytes, and each step of all lanes some 20 us.
_LANE_SYMBOLS = 2048
_MOST_LANES = 4096
#: Fewer lanes than these go symbol by symbol, in Python's integers: a step of a numpy array costs
#: some 20 us however short it is, a symbol some 0.5 us. The bytes are the same.
_FEW_LANES = 24

Symbols = NDArray[np.integer]
Frequencies = NDArray[np.integer]


def frequencies(counts: NDArray[np.integer]) -> Frequencies:
    """Return counts scaled to add up to 4096, none that occurs below 1.

    Args:
        counts: how often each symbol occurs, at least one of them at all.
    """
    counts = np.asarray(counts, dtype=np.int64)
    scaled: NDArray[np.int64] = np.maximum(counts * _TOTAL // counts.sum(), counts > 0)
    # What rounding left over or took too much is the most frequent symbols' to bear.
    while left := _TOTAL - int(scaled.sum()):
        at = int(scaled.argmax())
        scaled[at] += max(left, 1 - int(scaled[at]) // 2)
    return scaled


def encode(symbols: Symbols, frequency: Frequencies) -> bytes:
    """Return symbols as bytes.

    Args:
        symbols: (n,) from 0 on, each of a frequency above 0.
        frequency: of each symbol; they add up to 4096.
    """
    lanes = lane_count(len(symbols))
    if lanes < _FEW_LANES:
        return _encode_few(symbols, frequency, lanes)
    steps = -(-len(symbols) // lanes)
    freq = np.asarray(frequency, dtype=np.uint64)
    cumulative = np.cumsum(freq) - freq
    # Lanes of the last step that have no symbol stay as they are.
    last = len(symbols) - (steps - 1) * lanes
    state = np.full(lanes, _LOWEST, dtype=np.uint64)
    words: list[NDArray[np.uint16]] = []
    for step in range(steps - 1, -1, -1):
        now = symbols[step * lanes : (step + 1) * lanes]
        active = state[: last if step == steps - 1 else lanes]
        f = freq[now]
        full = active >= f << np.uint64(32 - PRECISION_BITS)
        words.append((active[full] & np.uint64(0xFFFF)).astype("<u2"))
        active[full] >>= np.uint64(_WORD_BITS)
        quotient, rest = np.divmod(active, f)
        active[:] = (quotient << np.uint64(PRECISION_BITS)) + rest + cumulative[now]
    tail = np.concatenate(words[::-1]) if words else np.zeros(0, dtype="<u2")
    return state.astype("<u4").tobytes() + tail.tobytes()


def decode(data: bytes, count: int, frequency: Frequencies) -> Symbols:
    """Return the symbols again.

    Args:
        data: of `encode`.
        count: of symbols.
        frequency: the same as then.

    Raises:
        MalformedError: the bytes are not what `encode` writes for so many symbols.
    """
    lanes = lane_count(count)
    steps = -(-count // lanes)
    if len(data) < 4 * lanes or (len(data) - 4 * lanes) % 2:
        raise MalformedError(f"{count} coded symbols have {len(data)} bytes; they were cut off.")
    if lanes < _FEW_LANES:
        return _decode_few(data, count, frequency, lanes)
    state = np.frombuffer(data, dtype="<u4", count=lanes).astype(np.uint64)
    words = np.frombuffer(data, dtype="<u2", offset=4 * lanes).astype(np.uint64)
    freq = np.asarray(frequency, dtype=np.uint64)
    cumulative = np.cumsum(freq) - freq
    symbol_at = np.repeat(np.arange(len(freq)), freq.astype(np.int64))
    result = np.empty(count, dtype=np.int64)
    at = 0
    for step in range(steps):
        part = result[step * lanes : (step + 1) * lanes]
        active = state[: len(part)]
        slot = active & np.uint64(_TOTAL - 1)
        part[:] = symbol_at[slot]
        active[:] = freq[part] * (active >> np.uint64(PRECISION_BITS)) + slot - cumulative[part]
        short = np.flatnonzero(active < _LOWEST)
        taken = words[at : at + len(short)]
        if len(taken) < len(short):
            raise MalformedError(f"{count} coded symbols lack bytes; they were cut off.")
        active[short] = (active[short] << np.uint64(_WORD_BITS)) | taken
        at += len(short)
    if at != len(words) or (state != _LOWEST).any():
        raise MalformedError(f"{count} coded symbols do not end as they should.")
    return result


def _encode_few(symbols: Symbols, frequency: Frequencies, lanes: int) -> bytes:
    """Do as `encode`, one symbol after the other."""
    values, freq = symbols.tolist(), np.asarray(frequency).tolist()
    cumulative = (np.cumsum(frequency) - frequency).tolist()
    state = [_LOWEST] * lanes
    words: list[list[int]] = []
    for first in range((len(values) - 1) // lanes * lanes, -1, -lanes):
        step: list[int] = []
        for lane, symbol in enumerate(values[first : first + lanes]):
            x, f = state[lane], freq[symbol]
            if x >= f << (32 - PRECISION_BITS):
                step.append(x & 0xFFFF)
                x >>= _WORD_BITS
            state[lane] = (x // f << PRECISION_BITS) + x % f + cumulative[symbol]
        words.append(step)
    tail = np.array([word for step in reversed(words) for word in step], dtype="<u2")
    return np.array(state, dtype="<u4").tobytes() + tail.tobytes()


def _decode_few(data: bytes, count: int, frequency: Frequencies, lanes: int) -> Symbols:
    """Do as `decode`, one symbol after the other."""
    state = np.frombuffer(data, dtype="<u4", count=lanes).tolist()
    words = np.frombuffer(data, dtype="<u2", offset=4 * lanes).tolist()
    freq = np.asarray(frequency).tolist()
    cumulative = (np.cumsum(frequency) - frequency).tolist()
    symbol_at = np.repeat(np.arange(len(freq)), freq).tolist()
    result, at = [0] * count, 0
    for first in range(0, count, lanes):
        for lane in range(min(lanes, count - first)):
            slot = state[lane] & (_TOTAL - 1)
            symbol = symbol_at[slot]
            x = freq[symbol] * (state[lane] >> PRECISION_BITS) + slot - cumulative[symbol]
            if x < _LOWEST:
                if at == len(words):
                    raise MalformedError(f"{count} coded symbols lack bytes; they were cut off.")
                x = x << _WORD_BITS | words[at]
                at += 1
            state[lane] = x
            result[first + lane] = symbol
    if at != len(words) or any(x != _LOWEST for x in state):
        raise MalformedError(f"{count} coded symbols do not end as they should.")
    return np.array(result, dtype=np.int64)


def most_bytes(count: int) -> int:
    """Return how many bytes `encode` writes at most: 12 bits a symbol, and the lanes' states."""
    return 4 * lane_count(count) + 2 * -(-count * PRECISION_BITS // _WORD_BITS) + 2 * count // 8


def lane_count(count: int) -> int:
    """Return how many lanes so many symbols are coded in; both sides know it."""
    return min(max(1, -(-count // _LANE_SYMBOLS)), _MOST_LANES)
