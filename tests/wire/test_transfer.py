"""Chunks, ranges and bitmaps: what is no chunk is refused, what is one comes back."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import MalformedError, TooLargeError
from wire.transfer import (
    HEADER_BYTES,
    MAX_BLOB_BYTES,
    Bitmap,
    check_sha256,
    chunk_count,
    chunk_size,
    decode_chunk,
    encode_chunk,
    indices,
    ranges,
)

SHA = "0123456789abcdef" * 4


def by_hand(
    magic: bytes = b"LKC1",
    index: int = 2,
    offset: int = 131072,
    data: bytes = b"xyz",
    crc: int | None = None,
) -> bytes:
    """A chunk's header after the specification, field by field."""
    return (
        magic
        + bytes.fromhex("0123456789abcdef")
        + struct.pack(">I", index)
        + struct.pack(">Q", offset)
        + struct.pack(">I", zlib.crc32(data) if crc is None else crc)
        + data
    )


def test_a_chunk_looks_as_specified() -> None:
    assert encode_chunk(SHA, 2, b"xyz") == by_hand()
    assert HEADER_BYTES == 4 + 8 + 4 + 8 + 4


def test_the_checksum_is_the_usual_crc32() -> None:
    # The check value of CRC-32/ISO-HDLC is that of the digits 1 to 9: 0xCBF43926.
    assert encode_chunk(SHA, 0, b"123456789")[24:28] == bytes.fromhex("cbf43926")


def test_a_chunk_comes_back_as_it_was() -> None:
    chunk = decode_chunk(by_hand())
    assert (chunk.key, chunk.index, chunk.offset, chunk.data) == (
        bytes.fromhex("0123456789abcdef"),
        2,
        131072,
        b"xyz",
    )


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "header"),
        (by_hand()[:27], "header"),
        (by_hand(data=b""), "header"),
        (by_hand(magic=b"LKC2"), "LKC1"),
        (by_hand(offset=131071), "131071"),
        (by_hand(index=3), "must be 196608"),
        (by_hand(index=2**20, offset=2**36), "below"),
        (by_hand(crc=1), "CRC32"),
        (by_hand()[:-1] + b"Z", "CRC32"),
    ],
)
def test_what_is_no_chunk_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        decode_chunk(payload)


def test_a_chunk_larger_than_agreed_is_refused() -> None:
    assert len(decode_chunk(by_hand(data=bytes(65536))).data) == 65536
    with pytest.raises(TooLargeError, match="65537"):
        decode_chunk(by_hand(data=bytes(65537)))


@given(st.binary(max_size=100))
def test_noise_is_no_chunk(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_chunk(payload)


@pytest.mark.parametrize(
    ("sha256", "index", "data"),
    [
        ("short", 0, b"x"),
        (SHA, -1, b"x"),
        (SHA, 2**20, b"x"),
        (SHA, 0, b""),
        (SHA, 0, bytes(65537)),
    ],
)
def test_impossible_chunks_are_not_made(sha256: str, index: int, data: bytes) -> None:
    with pytest.raises(MalformedError):
        encode_chunk(sha256, index, data)


@pytest.mark.parametrize(
    "bad", ["", "a" * 63, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n"]
)
def test_only_64_hexadecimal_digits_are_a_sha256(bad: str) -> None:
    assert check_sha256(SHA) == SHA
    with pytest.raises(MalformedError, match="sha256"):
        check_sha256(bad)


@pytest.mark.parametrize(
    ("size", "count"), [(0, 0), (1, 1), (65536, 1), (65537, 2), (131072, 2), (200_000, 4)]
)
def test_a_blob_has_as_many_chunks_as_it_needs(size: int, count: int) -> None:
    assert chunk_count(size) == count


def test_only_the_last_chunk_is_shorter() -> None:
    assert [chunk_size(200_000, i) for i in range(4)] == [65536, 65536, 65536, 3392]
    assert chunk_size(131072, 1) == 65536


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_a_chunk_beyond_the_end_is_refused(index: int) -> None:
    with pytest.raises(MalformedError, match="of 4 chunks"):
        chunk_size(200_000, index)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(MalformedError, match="-1"):
        chunk_count(-1)
    with pytest.raises(TooLargeError):
        chunk_count(MAX_BLOB_BYTES + 1)


def test_ranges_join_neighbours() -> None:
    assert ranges([5, 1, 2, 3, 9, 2]) == [(1, 3), (5, 1), (9, 1)]
    assert ranges([]) == []


def test_indices_stop_at_the_limit() -> None:
    assert indices([(1, 3), (5, 2)], 7, 4) == [1, 2, 3, 5]
    assert indices([(1, 3), (5, 2)], 7, 99) == [1, 2, 3, 5, 6]
    assert indices([(1, 3)], 7, 0) == []


@pytest.mark.parametrize(
    "wanted",
    [[(-1, 2)], [(0, 0)], [(0, -3)], [(6, 2)], [(7, 1)], [(0, 2), (1, 1)], [(4, 1), (0, 1)]],
)
def test_impossible_ranges_are_refused_even_beyond_the_limit(wanted: list[tuple[int, int]]) -> None:
    with pytest.raises(MalformedError, match="7 chunks"):
        indices(wanted, 7, 1)
    with pytest.raises(MalformedError):
        indices(wanted, 7, 0)


def test_a_range_of_astronomic_length_costs_nothing() -> None:
    with pytest.raises(MalformedError):
        indices([(0, 10**18)], 7, 10**18)


@given(st.sets(st.integers(0, 300)))
def test_ranges_and_indices_undo_one_another(chosen: set[int]) -> None:
    assert indices(ranges(chosen), 301, 301) == sorted(chosen)


def test_a_bitmap_has_chunk_0_in_the_lowest_bit() -> None:
    bitmap = Bitmap(10)
    assert [bitmap.add(0), bitmap.add(9), bitmap.add(9)] == [True, True, False]
    assert bitmap.to_bytes() == bytes([0b0000_0001, 0b0000_0010])
    assert bitmap.held == 2
    assert bitmap.missing() == [(1, 8)]
    assert bitmap.missing(3) == [(1, 3)]
    assert 9 in bitmap
    assert 8 not in bitmap
    assert 17 not in bitmap


@pytest.mark.parametrize("index", [-1, 10, 15, 2**40])
def test_a_bitmap_takes_no_chunk_beyond_its_end(index: int) -> None:
    with pytest.raises(MalformedError):
        Bitmap(10).add(index)


def test_an_empty_blob_is_complete_from_the_start() -> None:
    assert Bitmap(0).complete
    assert Bitmap(0).missing() == []


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\0\x04", b"\0\xff"])
def test_a_bitmap_of_another_size_or_with_stray_bits_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Bitmap.from_bytes(data, 10)


@given(count=st.integers(0, 200), data=st.data())
def test_a_bitmap_comes_back_and_misses_exactly_the_rest(count: int, data: st.DataObject) -> None:
    held = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
    bitmap = Bitmap(count)
    for index in held:
        bitmap.add(index)
    again = Bitmap.from_bytes(bitmap.to_bytes(), count)
    assert again.missing() == ranges(set(range(count)) - held)
    assert again.held == len(held)
    assert again.complete == (len(held) == count)
