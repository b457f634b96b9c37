"""A device keeps what passes by of the blobs it wants, and asks for the rest."""

import hashlib
from pathlib import Path

from edge_agent.collect import QUIET_S, Collector
from wire.blobs import BlobStore
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
    assert gather.on_chunk(bytes(damaged), now=0) is None
    assert gather.on_chunk(b"nonsense", now=0) is None
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
