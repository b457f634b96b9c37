"""Updates on their way in: begun once, taken from disk after a restart, bounded for everybody."""

import hashlib
import os
from pathlib import Path

import pytest

from hub.rounds.uploads import MAX_UPLOADS, SHARED_WINDOW, Due, UnknownUploadError, Uploads
from wire.blobs import BlobStore
from wire.chunk_hashes import list_of
from wire.errors import MalformedError
from wire.messages import BlobInit
from wire.partial import WrongChunksError
from wire.transfer import CHUNK_BYTES, WINDOW, encode_chunk

DATA = os.urandom(2 * CHUNK_BYTES + 5)
SHA = hashlib.sha256(DATA).hexdigest()


def announcement(data: bytes = DATA, **changes: object) -> BlobInit:
    fields = {"id": "1", "session": "s", "task": "t", "size_bytes": len(data)}
    fields |= {"sha256": hashlib.sha256(data).hexdigest()} | changes
    return BlobInit(**fields)  # type: ignore[arg-type]


def chunk(index: int, data: bytes = DATA) -> bytes:
    sha256 = hashlib.sha256(data).hexdigest()
    return encode_chunk(sha256, index, data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])


def test_an_upload_is_taken_chunk_by_chunk(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    uploads = Uploads(store)
    assert uploads.begin("a", announcement()) == [(0, 3)]
    for index in (0, 2):
        assert uploads.on_chunk("a", chunk(index)) is None
    assert uploads.finish("a", SHA) == [(1, 1)]
    uploads.on_chunk("a", chunk(1))
    assert uploads.finish("a", SHA) is None
    assert store.path(SHA) is not None
    assert uploads.finish("a", SHA) is None  # a question that is repeated
    assert uploads.begin("a", announcement()) is None


def test_chunks_of_uploads_that_nobody_began_are_dropped(tmp_path: Path) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    uploads.begin("a", announcement())
    uploads.on_chunk("b", chunk(0))
    assert uploads.finish("a", SHA) == [(0, 3)]
    with pytest.raises(UnknownUploadError):
        uploads.finish("b", SHA)


@pytest.mark.parametrize("digest", ["", "z" * 64, SHA.upper(), SHA[:62], " ".join(SHA)])
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    with pytest.raises(MalformedError, match="64 digits"):
        uploads.finish("a", digest)
    with pytest.raises(MalformedError, match="64 digits"):
        uploads.begin("a", announcement(sha256=digest))


def test_what_a_restart_found_is_synced_before_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Uploads(BlobStore(tmp_path))
    first.begin("a", announcement())
    first.on_chunk("a", chunk(1))
    synced: list[str] = []
    monkeypatch.setattr(
        "os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().suffix)
    )
    second = Uploads(BlobStore(tmp_path))
    assert second.begin("a", announcement()) == [(0, 1), (2, 1)]
    assert synced == [".data", ".state", ""]


def test_questions_about_what_is_missing_sync_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    uploads.begin("a", announcement())
    uploads.on_chunk("a", chunk(1))
    monkeypatch.setattr("os.fsync", lambda _fd: pytest.fail("credit is volatile"))
    assert uploads.finish("a", SHA) == [(0, 1), (2, 1)]


def test_the_only_chunk_is_waited_for_once(tmp_path: Path) -> None:
    uploads, data = Uploads(BlobStore(tmp_path)), b"small"
    first = announcement(data, follows=True)
    assert uploads.begin("a", first) == [(0, 1)]
    assert uploads.wait_for_chunk("a", first)
    assert uploads.begin("a", first) == [(0, 1)]
    assert not uploads.wait_for_chunk("a", first)  # repeated: the chunk was lost
    assert uploads.on_chunk("a", chunk(0, data)) == Due(first, None)
    assert uploads.on_chunk("a", chunk(0, data)) is None


def test_a_device_that_wants_it_is_told_after_each_half_of_a_window_that_came(
    tmp_path: Path,
) -> None:
    assert WINDOW == 8
    uploads, data = Uploads(BlobStore(tmp_path)), os.urandom(20 * CHUNK_BYTES)
    message = announcement(data, unasked=True)
    uploads.begin("a", message)
    assert uploads.tells("a", message.sha256)
    told = [uploads.on_chunk("a", chunk(index, data)) for index in (0, 1, 3, 3, 4, 5, 6, 7, 8)]
    # 2 was lost, and 3 came twice.
    assert told[:4] + told[5:8] == [None] * 7
    assert told[4] == Due(message, [(2, 1), (5, 15)])
    assert told[8] == Due(message, [(2, 1), (9, 11)])


def test_what_a_device_was_told_when_it_asked_is_not_told_again(tmp_path: Path) -> None:
    uploads, data = Uploads(BlobStore(tmp_path)), os.urandom(20 * CHUNK_BYTES)
    message = announcement(data, unasked=True)
    uploads.begin("a", message)
    for index in range(3):
        uploads.on_chunk("a", chunk(index, data))
    assert uploads.finish("a", message.sha256) == [(3, 16)]
    told = [uploads.on_chunk("a", chunk(index, data)) for index in range(3, 7)]
    assert told == [None, None, None, Due(message, [(7, 13)])]


def test_a_device_that_does_not_want_it_or_has_sent_all_is_told_nothing(tmp_path: Path) -> None:
    uploads, data = Uploads(BlobStore(tmp_path)), os.urandom(8 * CHUNK_BYTES)
    uploads.begin("old", announcement(data))
    uploads.begin("a", announcement(data, unasked=True))
    assert not uploads.tells("old", announcement(data).sha256)
    for index in range(4):
        assert uploads.on_chunk("old", chunk(index, data)) is None
    for index in range(4, 7):
        uploads.on_chunk("a", chunk(index, data))
    assert uploads.on_chunk("a", chunk(7, data)) is None  # both share what came: it asks itself


def test_an_announcement_without_a_chunk_behind_it_is_answered_at_once(tmp_path: Path) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    message = announcement(b"small")
    uploads.begin("a", message)
    assert not uploads.wait_for_chunk("a", message)


def test_wrong_chunks_are_told_by_the_list(tmp_path: Path) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    uploads.begin("a", announcement())
    for index in (0, 1):
        uploads.on_chunk("a", chunk(index))
    uploads.on_chunk("a", encode_chunk(SHA, 2, b"wrong"))
    with pytest.raises(WrongChunksError):
        uploads.finish("a", SHA)
    assert uploads.begin("a", announcement(hashes=list_of(DATA))) == [(2, 1)]
    with pytest.raises(MalformedError, match="asked for again"):
        uploads.on_chunk("a", encode_chunk(SHA, 2, b"wrong"))
    uploads.on_chunk("a", chunk(2))
    assert uploads.finish("a", SHA) is None


def test_a_list_may_be_a_blob_that_came_before(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    uploads = Uploads(store)
    listed = store.put(list_of(DATA))
    assert uploads.begin("a", announcement(hashes_sha256=listed)) == [(0, 3)]
    with pytest.raises(UnknownUploadError, match="upload it"):
        uploads.begin("a", announcement(hashes_sha256="0" * 64))
    with pytest.raises(MalformedError, match="needs 48"):
        uploads.begin("a", announcement(hashes_sha256=store.put(b"short")))
    with pytest.raises(MalformedError, match="sha256"):
        uploads.begin("a", announcement(hashes_sha256="../../etc/passwd"))


def test_a_device_has_few_uploads_and_the_oldest_makes_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    uploads = Uploads(store)
    blobs = [os.urandom(CHUNK_BYTES + 1) for _ in range(MAX_UPLOADS + 1)]
    for data in blobs:
        uploads.begin("a", announcement(data))
        uploads.on_chunk("a", chunk(0, data))
    with pytest.raises(UnknownUploadError):
        uploads.finish("a", hashlib.sha256(blobs[0]).hexdigest())
    assert uploads.begin("a", announcement(blobs[0])) == [(1, 1)]  # what came of it, stayed


@pytest.mark.parametrize(
    ("devices", "window"), [(1, WINDOW), (16, WINDOW), (20, 6), (128, 1), (1000, 1)]
)
def test_many_devices_share_what_may_be_under_way(
    tmp_path: Path, devices: int, window: int
) -> None:
    assert SHARED_WINDOW == 128
    uploads = Uploads(BlobStore(tmp_path))
    for number in range(devices):
        uploads.begin(f"d{number}", announcement())
    assert uploads.window == window


def test_impossible_announcements_are_refused(tmp_path: Path) -> None:
    uploads = Uploads(BlobStore(tmp_path))
    with pytest.raises(MalformedError):
        uploads.begin("a", announcement(sha256="short"))
    with pytest.raises(MalformedError):
        uploads.begin("a", announcement(size_bytes=-1))
    uploads.begin("a", announcement())
    with pytest.raises(MalformedError, match="size"):
        uploads.begin("a", announcement(size_bytes=5))
