"""A device keeps what passes by of the blobs it wants, and asks for the rest."""

import hashlib
from pathlib import Path

import pytest

from edge_agent.collect import QUIET_S, Collector
from wire.blobs import BlobStore
from wire.chunk_hashes import list_of
from wire.errors import MalformedError
from wire.messages import Ranges
from wire.transfer import CHUNK_BYTES, WINDOW, chunk_count, chunk_size, encode_chunk

DATA = bytes(range(256)) * 256 * 20 + b"tail"  # 20 chunks and four bytes
SHA = hashlib.sha256(DATA).hexdigest()
COUNT = chunk_count(len(DATA))


def chunk(index: int) -> bytes:
    start = index * CHUNK_BYTES
    return encode_chunk(SHA, index, DATA[start : start + chunk_size(len(DATA), index)])


def collector(folder: Path, asked: list[tuple[str, Ranges]]) -> Collector:
    return Collector(BlobStore(folder), lambda sha, missing: asked.append((sha, missing)))


def test_a_broadcast_that_is_heard_whole_needs_no_question(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    assert not gather.want(SHA, len(DATA), now=0)
    done = [gather.on_chunk(chunk(index), now=0.1) for index in range(COUNT)]
    assert done == [None] * (COUNT - 1) + [SHA]
    gather.tick(now=100)
    assert asked == []
    path = BlobStore(tmp_path).path(SHA)
    assert path is not None
    assert path.read_bytes() == DATA
    assert gather.want(SHA, len(DATA), now=1)


def test_what_is_missing_is_asked_for_a_window_at_a_time_after_a_quiet_moment(
    tmp_path: Path,
) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    gather.want(SHA, len(DATA), now=0)
    for index in range(5, COUNT):
        gather.on_chunk(chunk(index), now=0.5)
    gather.tick(now=0.5 + QUIET_S - 0.01)
    assert asked == []
    gather.tick(now=0.5 + QUIET_S)
    assert asked == [(SHA, [(0, 5)])]


def test_the_next_window_is_asked_for_as_soon_as_one_is_in(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    gather.want(SHA, len(DATA), now=0)
    gather.tick(now=QUIET_S)
    assert asked == [(SHA, [(0, WINDOW)])]
    for index in range(WINDOW):
        gather.on_chunk(chunk(index), now=2)
    assert asked[1:] == [(SHA, [(WINDOW, WINDOW)])]


def test_unanswered_questions_are_repeated_with_growing_pauses(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    gather.want(SHA, len(DATA), now=0)
    for tenth in range(400):
        gather.tick(now=tenth / 10)
    # Due at 1.5 s, then 3, 6, 12, 24 s later: 1.5, 4.5, 10.5, 22.5 lie within 40 s.
    assert len(asked) == 4


def test_chunks_that_nobody_wants_or_that_are_damaged_change_nothing(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    assert gather.on_chunk(chunk(0), now=0) is None
    gather.want(SHA, len(DATA), now=0)
    damaged = bytearray(chunk(0))
    damaged[-1] ^= 1
    with pytest.raises(MalformedError, match="CRC32"):
        gather.on_chunk(bytes(damaged), now=0)
    with pytest.raises(MalformedError, match="header"):
        gather.on_chunk(b"nonsense", now=0)
    gather.tick(now=QUIET_S)
    assert asked[0][1][0][0] == 0


def test_what_was_gathered_survives_a_restart(tmp_path: Path) -> None:
    first = Collector(BlobStore(tmp_path), lambda *_: None)
    first.want(SHA, len(DATA), now=0)
    for index in range(10):
        first.on_chunk(chunk(index), now=0)
    first.flush()
    asked: list[tuple[str, Ranges]] = []
    second = collector(tmp_path, asked)
    second.want(SHA, len(DATA), now=0)
    second.tick(now=QUIET_S)
    assert asked == [(SHA, [(10, WINDOW)])]


def test_a_kill_loses_nothing_that_was_gathered(tmp_path: Path) -> None:
    first = Collector(BlobStore(tmp_path), lambda *_: None)
    first.want(SHA, len(DATA), now=0)
    for index in range(10):
        first.on_chunk(chunk(index), now=0)
    asked: list[tuple[str, Ranges]] = []
    second = collector(tmp_path, asked)
    second.want(SHA, len(DATA), now=0)
    second.tick(now=QUIET_S)
    assert asked == [(SHA, [(10, WINDOW)])]


def test_a_restart_that_finds_everything_only_finishes(tmp_path: Path) -> None:
    first = Collector(BlobStore(tmp_path), lambda *_: None)
    first.want(SHA, len(DATA), now=0)
    for index in range(COUNT):
        first._wants[bytes.fromhex(SHA)[:8]].partial.write(
            index, DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        )
    second = collector(tmp_path, [])
    second.want(SHA, len(DATA), now=0)
    assert second.tick(now=0.1) == [SHA]
    assert second.want(SHA, len(DATA), now=0.2)


def test_a_forged_chunk_is_asked_for_again_by_itself(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = collector(tmp_path, asked)
    gather.want(SHA, len(DATA), now=0, hashes=list_of(DATA))
    gather.on_chunk(encode_chunk(SHA, 3, bytes(CHUNK_BYTES)), now=0)
    for index in range(COUNT):
        assert gather.on_chunk(chunk(index), now=0) is None
    gather.tick(now=QUIET_S)
    assert asked == [(SHA, [(3, 1)])]
    assert gather.on_chunk(chunk(3), now=2) == SHA


def test_without_a_list_a_forged_chunk_costs_the_blob_and_no_endless_work(tmp_path: Path) -> None:
    gather = collector(tmp_path, [])
    gather.want(SHA, len(DATA), now=0)
    gather.on_chunk(encode_chunk(SHA, 3, bytes(CHUNK_BYTES)), now=0)
    for index in range(COUNT):
        gather.on_chunk(chunk(index), now=0)
    assert gather.idle
    assert BlobStore(tmp_path).partials() == []


def pulling(folder: Path, asked: list[tuple[str, Ranges]], allowed: list[int]) -> Collector:
    """A collector that may ask for so many chunks as `allowed` says at each tick."""

    def pull(_size: int, _now: float) -> bool:
        allowed[0] -= 1
        return allowed[0] >= 0

    store = BlobStore(folder)
    return Collector(store, lambda sha, missing: asked.append((sha, missing)), pull)


def test_a_limited_device_asks_for_what_it_may_and_at_once(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    allowed = [2]
    gather = pulling(tmp_path, asked, allowed)
    gather.want(SHA, len(DATA), now=0)
    gather.tick(now=0)
    assert asked == [(SHA, [(0, 2)])]
    allowed[0] = 1
    gather.tick(now=0.2)
    assert asked[1:] == [(SHA, [(2, 1)])]
    allowed[0] = 100
    gather.tick(now=0.4)
    assert asked[2:] == [(SHA, [(3, 5)])]  # a window is under way
    gather.on_chunk(chunk(1), now=0.5)
    gather.tick(now=0.5)
    assert asked[3:] == [(SHA, [(8, 1)])]


def test_what_was_pulled_in_vain_is_asked_for_again_with_growing_pauses(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    gather = pulling(tmp_path, asked, [1000])
    gather.want(SHA, len(DATA), now=0)
    for second in range(100):
        gather.tick(now=second)
    # At 0, then after more than 10, 20 and 40 s: 0, 11, 32 and 73.
    assert asked == [(SHA, [(0, WINDOW)])] * 4


def test_a_second_blob_waits_until_the_first_is_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[str, Ranges]] = []
    allowed = [1]
    gather = pulling(tmp_path, asked, allowed)
    gather.want(SHA, len(DATA), now=0)
    gather.want("0" * 64, 10, now=0)
    gather.tick(now=0)
    assert [sha for sha, _ in asked] == [SHA]
