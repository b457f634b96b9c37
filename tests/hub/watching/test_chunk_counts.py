from typing import Any

from hub.watching import chunk_counts
from hub.watching.chunk_counts import ChunkCounts, Told
from wire.transfer import Chunk

SLICE = "lorikeet-data/v1/f/job/notes/slice/lora-0"
BLOB = "6f1c2a9e"


def chunk(index: int = 0, size_bytes: int = 65_536, key: str = BLOB) -> Chunk:
    return Chunk(bytes.fromhex(key) * 2, index, index * 65_536, bytes(size_bytes), 0)


def test_a_blob_is_told_once_after_a_second_of_quiet() -> None:
    counts = ChunkCounts()
    for index in range(3):
        assert counts.add(SLICE, chunk(index), 0.5 * index) == []
    assert counts.due(1.9) == []
    assert counts.due(2.0) == [Told(SLICE, BLOB, 3, 196_608)]
    assert counts.due(9.0) == []


def test_a_long_blob_is_told_every_five_seconds() -> None:
    counts = ChunkCounts()
    told = []
    for tenth in range(120):  # 12 s, ten chunks a second
        counts.add(SLICE, chunk(tenth, 10), tenth / 10)
        told += [(tenth / 10, one.chunks) for one in counts.due(tenth / 10)]
    assert told == [(5.0, 51), (10.1, 102)]
    assert counts.rest() == [Told(SLICE, BLOB, 120, 1200)]


def test_blobs_and_topics_are_counted_apart() -> None:
    counts = ChunkCounts()
    counts.add(SLICE, chunk(), 0.0)
    counts.add(SLICE, chunk(key="00112233"), 0.0)
    counts.add("lorikeet-data/v1/f/d/a/up", chunk(size_bytes=5), 0.0)
    assert [(one.blob, one.size_bytes) for one in counts.due(1.0)] == [
        (BLOB, 65_536), ("00112233", 65_536), (BLOB, 5)
    ]  # fmt: skip


def test_more_blobs_than_can_be_counted_make_the_oldest_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(chunk_counts, "MAX_BLOBS", 1)
    counts = ChunkCounts()
    counts.add(SLICE, chunk(), 0.0)
    assert counts.add(SLICE, chunk(key="00112233"), 0.0) == [Told(SLICE, BLOB, 1, 65_536)]
    assert [one.blob for one in counts.rest()] == ["00112233"]
