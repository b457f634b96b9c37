"""One block of each format, packed by hand from the layouts in ggml-common.h."""

import struct

import torch

from edge_agent.training.blockwise.quantised import FORMATS


def unpacked(kind: str, block: bytes) -> list[float]:
    """Return the block's weights."""
    assert len(block) == FORMATS[kind].block_bytes
    raw = torch.tensor([list(block)], dtype=torch.uint8)

    def buffer(_name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    (q, scale, low), fill = FORMATS[kind].prepare(1, buffer)
    fill(raw)
    weights = q * scale if low is None else q * scale - low
    return weights.flatten().tolist()


def half(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def nibbles(low: list[int], high: list[int]) -> bytes:
    return bytes(a | b << 4 for a, b in zip(low, high, strict=True))


UP, DOWN = list(range(16)), list(range(15, -1, -1))


def test_q4_0_holds_low_nibbles_first_and_takes_8_off() -> None:
    block = half(0.5) + nibbles(UP, DOWN)
    assert unpacked("q4_0", block) == [0.5 * (q - 8) for q in UP + DOWN]


def test_q4_1_adds_its_minimum() -> None:
    block = half(0.5, -3.0) + nibbles(UP, DOWN)
    assert unpacked("q4_1", block) == [0.5 * q - 3.0 for q in UP + DOWN]


def test_q5_holds_its_fifth_bits_in_the_weights_order() -> None:
    fifth = [0, 4, 9, 31]
    bits = struct.pack("<I", sum(1 << i for i in fifth))
    q = [value + 16 * (i in fifth) for i, value in enumerate(UP + DOWN)]
    assert unpacked("q5_0", half(0.5) + bits + nibbles(UP, DOWN)) == [0.5 * (v - 16) for v in q]
    block = half(0.5, 1.0) + bits + nibbles(UP, DOWN)
    assert unpacked("q5_1", block) == [0.5 * v + 1.0 for v in q]


def test_q8_0_is_signed_bytes() -> None:
    values = [-128, -1, 0, 1, 127] + [i - 13 for i in range(27)]
    assert unpacked("q8_0", half(0.25) + struct.pack("<32b", *values)) == [v / 4 for v in values]


#: Of the eight groups: six bits each, so that all their bits are used.
SCALES = [1, 18, 35, 52, 5, 22, 39, 63]
LOWS = [62, 40, 23, 6, 51, 34, 17, 2]


def packed_scales() -> bytes:
    first = [SCALES[i] | (SCALES[i + 4] >> 4) << 6 for i in range(4)]
    second = [LOWS[i] | (LOWS[i + 4] >> 4) << 6 for i in range(4)]
    third = [SCALES[i + 4] & 15 | (LOWS[i + 4] & 15) << 4 for i in range(4)]
    return bytes(first + second + third)


def in_32s(g: int) -> list[int]:
    return [(i * (g + 1)) % 16 for i in range(32)]


def test_q4_k_has_eight_groups_each_with_a_scale_and_a_low() -> None:
    packed = b"".join(nibbles(in_32s(g), in_32s(g + 1)) for g in range(0, 8, 2))
    block = half(0.5, 0.25) + packed_scales() + packed
    expected = [0.5 * SCALES[g] * q - 0.25 * LOWS[g] for g in range(8) for q in in_32s(g)]
    assert unpacked("q4_k", block) == expected


def test_q5_k_has_a_byte_of_fifth_bits_for_eight_groups() -> None:
    packed = b"".join(nibbles(in_32s(g), in_32s(g + 1)) for g in range(0, 8, 2))
    fifth = [(i * 37) % 256 for i in range(32)]
    block = half(0.5, 0.25) + packed_scales() + bytes(fifth) + packed
    expected = [
        0.5 * SCALES[g] * (q + 16 * (fifth[i] >> g & 1)) - 0.25 * LOWS[g]
        for g in range(8)
        for i, q in enumerate(in_32s(g))
    ]
    assert unpacked("q5_k", block) == expected


def test_q6_k_has_two_upper_bits_and_a_scale_for_each_sixteen_weights() -> None:
    low = [in_32s(g) for g in range(8)]  # of 32 weights each
    upper = [[(i * 53 + h) % 256 for i in range(32)] for h in range(2)]
    # Half h: 64 bytes, whose low nibbles are groups 4h and 4h + 1, whose high ones the next two.
    nibble_bytes = b"".join(
        nibbles(low[4 * h] + low[4 * h + 1], low[4 * h + 2] + low[4 * h + 3]) for h in range(2)
    )
    scales = [-8, 7, 100, -100, 1, 2, 3, 4, 5, 6, -1, -2, -3, 127, -128, 9]
    block = nibble_bytes + bytes(upper[0] + upper[1]) + struct.pack("<16b", *scales) + half(0.5)
    expected = []
    for g in range(8):
        for i in range(32):
            q = low[g][i] + 16 * (upper[g // 4][i] >> 2 * (g % 4) & 3) - 32
            expected.append(0.5 * scales[2 * g + i // 16] * q)
    assert unpacked("q6_k", block) == expected
