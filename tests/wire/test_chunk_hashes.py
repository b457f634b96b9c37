"""The list of a blob's chunks: as sha256 says, and no longer than it need be."""

import hashlib
from pathlib import Path

import pytest

from wire.chunk_hashes import (
    HASH_BYTES,
    INLINE_CHUNKS,
    check_list,
    chunk_hash,
    list_bytes,
    list_of,
    list_of_file,
)
from wire.errors import MalformedError
from wire.messages import BlobInit, encode
from wire.messages.requests import MAX_INLINE_BYTES
from wire.transfer import CHUNK_BYTES


def test_a_chunks_digest_is_the_first_half_of_its_sha256() -> None:
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    assert chunk_hash(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223"


def test_the_list_has_a_digest_for_each_chunk_in_order(tmp_path: Path) -> None:
    data = b"a" * CHUNK_BYTES + b"b" * 10
    wanted = hashlib.sha256(b"a" * 65536).digest()[:16] + hashlib.sha256(b"b" * 10).digest()[:16]
    assert list_of(data) == wanted
    path = tmp_path / "blob"
    path.write_bytes(data)
    assert list_of_file(path) == wanted


@pytest.mark.parametrize("data", [b"", b"x", bytes(CHUNK_BYTES)])
def test_a_blob_of_one_chunk_needs_no_list(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data)
    assert list_of(data) == list_of_file(path) == b""
    assert list_bytes(len(data)) == 0


@pytest.mark.parametrize(
    ("size", "wanted"), [(65_537, 32), (5_000_000, 77 * 16), (2**36, 2**20 * 16)]
)
def test_a_list_is_sixteen_bytes_a_chunk(size: int, wanted: int) -> None:
    assert list_bytes(size) == wanted


def test_only_a_list_of_the_right_length_is_taken() -> None:
    assert check_list(bytes(32), 65_537) == bytes(32)
    assert check_list(b"", 65_537) == b""
    for wrong in (bytes(31), bytes(48)):
        with pytest.raises(MalformedError, match="needs 32"):
            check_list(wrong, 65_537)
    with pytest.raises(MalformedError, match="needs 0"):
        check_list(bytes(16), 100)


def announcement(hashes: bytes) -> BlobInit:
    return BlobInit(
        id="1", session="s" * 12, task="t" * 63, sha256="0" * 64, size_bytes=2**36, hashes=hashes
    )


def test_the_longest_list_in_a_message_keeps_it_below_8_kilobytes() -> None:
    assert INLINE_CHUNKS * HASH_BYTES == MAX_INLINE_BYTES
    assert len(encode(announcement(bytes(MAX_INLINE_BYTES)))) < 8192


def test_an_announcement_of_one_chunk_has_no_word_about_lists() -> None:
    assert b"hashes" not in encode(announcement(b""))
    assert b"follows" not in encode(announcement(b""))
