"""The blob store: what is there is whole and right; what is half there survives a restart."""

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wire.blobs import BlobStore
from wire.errors import MalformedError, TooLargeError
from wire.partial import Partial, WrongChunksError
from wire.transfer import CHUNK_BYTES

#: Three chunks, the last one of 100 bytes; no two alike.
DATA = b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c" * 100
SHA = hashlib.sha256(DATA).hexdigest()


def chunk(index: int, data: bytes = DATA) -> bytes:
    return data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def begun(folder: Path, *chunks: int, flush: bool = True) -> Partial:
    partial = BlobStore(folder).partial(SHA, len(DATA))
    for index in chunks:
        partial.write(index, chunk(index))
    if flush:
        partial.flush()
    return partial


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_blob_lies_under_its_sha256(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.put(b"abc") == abc
    path = store.path(abc)
    assert path == tmp_path / "ba" / abc
    assert path.read_bytes() == b"abc"
    assert store.size(abc) == 3
    assert store.all() == [abc]
    assert files(tmp_path) == [f"ba/{abc}"]


def test_putting_twice_keeps_one(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.put(b"abc") == store.put(b"abc")
    assert len(files(tmp_path)) == 1


def test_a_file_is_copied_and_stays(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    store = BlobStore(tmp_path / "blobs")
    assert store.put_file(source) == SHA
    assert store.put_file(source) == SHA
    path = store.path(SHA)
    assert path is not None
    assert path.read_bytes() == source.read_bytes() == DATA
    assert files(tmp_path / "blobs") == [f"{SHA[:2]}/{SHA}"]


def test_what_is_not_here_is_none(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert store.path(SHA) is None
    assert store.size(SHA) is None
    store.delete(SHA)


def test_a_deleted_blob_is_gone(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.delete(store.put(b"abc"))
    assert store.all() == []
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"]
)
def test_names_that_are_no_sha256_never_touch_the_disk(tmp_path: Path, name: str) -> None:
    store = BlobStore(tmp_path)
    for use in (store.path, store.size, store.delete, lambda it: store.partial(it, 1)):
        with pytest.raises(MalformedError, match="sha256"):
            use(name)


def test_chunks_in_any_order_and_repeated_become_the_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial(SHA, len(DATA))
    assert partial.missing() == [(0, 3)]
    assert [partial.write(i, chunk(i)) for i in (2, 0, 2)] == [True, True, False]
    assert partial.missing() == [(1, 1)]
    states = [partial.complete]
    partial.write(1, chunk(1))
    assert [*states, partial.complete] == [False, True]
    path = partial.finish()
    assert path == store.path(SHA)
    assert path.read_bytes() == DATA
    assert files(tmp_path) == [f"{SHA[:2]}/{SHA}"]


def test_missing_lists_at_most_so_many_chunks(tmp_path: Path) -> None:
    assert BlobStore(tmp_path).partial(SHA, len(DATA)).missing(2) == [(0, 2)]


@pytest.mark.parametrize(
    ("index", "data"),
    [(3, b"x"), (-1, chunk(0)), (0, b"short"), (2, chunk(0)), (2, b"c" * 101), (2, b"")],
)
def test_chunks_that_do_not_fit_are_refused(tmp_path: Path, index: int, data: bytes) -> None:
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    with pytest.raises(MalformedError):
        partial.write(index, data)
    assert partial.missing() == [(0, 3)]


def test_an_empty_blob_needs_no_chunk(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial(hashlib.sha256(b"").hexdigest(), 0)
    assert partial.complete
    assert partial.finish().read_bytes() == b""


def test_finishing_early_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path, 0, 1)
    with pytest.raises(MalformedError, match="lacks 1 of 3 chunks"):
        partial.finish()
    assert partial.missing() == [(2, 1)]


def test_wrong_content_never_becomes_the_blob(tmp_path: Path, hashes: bytes) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial(SHA, len(DATA))
    for index in range(3):
        partial.write(index, chunk(index) if index != 1 else b"X" * CHUNK_BYTES)
    for _ in range(2):
        with pytest.raises(WrongChunksError, match="not what they should be"):
            partial.finish()
    assert store.path(SHA) is None
    partial.expect(hashes)  # tells which one
    assert partial.missing() == [(1, 1)]
    partial.write(1, chunk(1))
    assert partial.finish().read_bytes() == DATA


def test_a_restart_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    begun(tmp_path, 2, 0)
    store = BlobStore(tmp_path)
    assert store.partials() == [SHA]
    partial = store.partial(SHA, len(DATA))
    assert partial.missing() == [(1, 1)]
    partial.write(1, chunk(1))
    assert partial.finish().read_bytes() == DATA
    assert store.partials() == []


def test_a_restart_with_everything_there_only_finishes(tmp_path: Path) -> None:
    begun(tmp_path, 0, 1, 2)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    assert partial.complete
    assert partial.finish().read_bytes() == DATA


def test_a_killed_process_loses_no_chunk(tmp_path: Path) -> None:
    begun(tmp_path, 0).write(1, chunk(1))
    assert BlobStore(tmp_path).partial(SHA, len(DATA)).missing() == [(2, 1)]


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the ending of each file that is synced; a folder has none."""
    order: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().suffix)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return order


def test_many_chunks_are_made_durable_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(70 * CHUNK_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    partial = BlobStore(tmp_path).partial(sha256, len(data))
    order = synced(monkeypatch)
    for index in range(63):
        partial.write(index, chunk(index, data))
    assert order == []
    partial.write(63, chunk(63, data))
    deadline = time.monotonic() + 10
    while len(order) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)  # another thread does it
    assert order == [".data", ".state", ""]


def damage_data(folder: Path) -> None:
    with (folder / "partial" / f"{SHA}.data").open("r+b") as file:
        file.seek(CHUNK_BYTES + 7)
        file.write(b"X")


def lose_the_tail(folder: Path) -> None:
    os.truncate(folder / "partial" / f"{SHA}.data", CHUNK_BYTES + 10)


def zero_a_chunk(folder: Path) -> None:
    with (folder / "partial" / f"{SHA}.data").open("r+b") as file:
        file.seek(CHUNK_BYTES)
        file.write(bytes(CHUNK_BYTES))


@pytest.mark.parametrize("harm", [damage_data, lose_the_tail, zero_a_chunk])
def test_a_restart_claims_only_chunks_that_are_really_there(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    begun(tmp_path, 0, 1)
    harm(tmp_path)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    assert partial.missing() == [(1, 2)]
    partial.write(1, chunk(1))
    partial.write(2, chunk(2))
    assert partial.finish().read_bytes() == DATA


def lose_data(folder: Path) -> None:
    (folder / "partial" / f"{SHA}.data").unlink()


def lose_state(folder: Path) -> None:
    (folder / "partial" / f"{SHA}.state").unlink()


def empty_state(folder: Path) -> None:
    (folder / "partial" / f"{SHA}.state").write_bytes(b"")


def cut_state(folder: Path) -> None:
    path = folder / "partial" / f"{SHA}.state"
    path.write_bytes(path.read_bytes()[:-3])


def of_another_version(folder: Path) -> None:
    path = folder / "partial" / f"{SHA}.state"
    path.write_bytes(b"LKP1" + path.read_bytes()[4:])


@pytest.mark.parametrize(
    "harm", [lose_data, lose_state, empty_state, cut_state, of_another_version]
)
def test_a_restart_with_damaged_files_begins_anew(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    begun(tmp_path, 0, 1)
    harm(tmp_path)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    assert partial.missing() == [(0, 3)]
    for index in range(3):
        partial.write(index, chunk(index))
    assert partial.finish().read_bytes() == DATA


@pytest.mark.parametrize(
    ("at", "missing"),
    [
        (12 + 2 * 5, [(2, 1)]),  # claims chunk 2, of which nothing came
        (12 + 1 * 5, [(1, 2)]),  # claims chunk 1 no more
        (12 + 0 * 5 + 3, [(0, 1), (2, 1)]),  # another checksum for chunk 0
    ],
)
def test_a_damaged_entry_costs_its_own_chunk_at_most(
    tmp_path: Path, at: int, missing: list[tuple[int, int]]
) -> None:
    begun(tmp_path, 0, 1)
    path = tmp_path / "partial" / f"{SHA}.state"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    assert partial.missing() == missing
    for index in range(3):
        partial.write(index, chunk(index))
    assert partial.finish().read_bytes() == DATA


def test_flushing_syncs_data_entries_and_names_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = begun(tmp_path, 0, flush=False)
    order = synced(monkeypatch)
    partial.flush()
    partial.flush()
    assert order == [".data", ".state", ""]


def test_what_a_restart_found_is_made_durable_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, 0, 1, flush=False)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    order = synced(monkeypatch)
    partial.flush()
    assert order == [".data", ".state", ""]


def test_the_whole_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = begun(tmp_path, 0, 1, 2)
    order = synced(monkeypatch)
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    partial.finish()
    assert order == [".data", "rename", "", ""]


@pytest.fixture(scope="module")
def hashes() -> bytes:
    """The list of `DATA` by another implementation of sha256: coreutils'."""
    digests = [
        subprocess.run(["sha256sum"], input=chunk(i), capture_output=True, check=True).stdout
        for i in range(3)
    ]
    return b"".join(bytes.fromhex(digest[:64].decode())[:16] for digest in digests)


def test_forged_chunks_are_found_by_themselves(tmp_path: Path, hashes: bytes) -> None:
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    partial.expect(hashes)
    for index in range(3):
        partial.write(index, b"X" * CHUNK_BYTES if index == 1 else chunk(index))
    with pytest.raises(WrongChunksError, match="not what they should be"):
        partial.finish()
    assert partial.missing() == [(1, 1)]
    # Warned, it now looks at each one.
    with pytest.raises(MalformedError, match="asked for again"):
        partial.write(1, b"Y" * CHUNK_BYTES)
    assert partial.missing() == [(1, 1)]
    partial.write(1, chunk(1))
    assert partial.finish().read_bytes() == DATA


def test_a_list_that_lies_itself_ends_the_blob(tmp_path: Path, hashes: bytes) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial("0" * 64, len(DATA))
    partial.expect(hashes)
    for index in range(3):
        partial.write(index, chunk(index))
    with pytest.raises(MalformedError, match="was discarded"):
        partial.finish()
    assert partial.missing() == [(0, 3)]
    assert files(tmp_path) == []


def test_a_blob_of_one_chunk_is_its_own_list(tmp_path: Path) -> None:
    # FIPS 180-2, appendix B.1: SHA-256 of "abc".
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    partial = BlobStore(tmp_path).partial(abc, 3)
    with pytest.raises(MalformedError, match="asked for again"):
        partial.write(0, b"abd")
    partial.write(0, b"abc")
    assert partial.finish().read_bytes() == b"abc"


def test_what_came_before_the_list_and_a_restart_is_held_against_it(
    tmp_path: Path, hashes: bytes
) -> None:
    first = BlobStore(tmp_path).partial(SHA, len(DATA))
    first.write(0, b"X" * CHUNK_BYTES)
    first.write(2, chunk(2))
    again = BlobStore(tmp_path).partial(SHA, len(DATA))
    assert again.missing() == [(1, 1)]
    again.expect(hashes)
    again.write(1, chunk(1))
    with pytest.raises(WrongChunksError):
        again.finish()
    assert again.missing() == [(0, 1)]
    again.write(0, chunk(0))
    assert again.finish().read_bytes() == DATA


@pytest.mark.parametrize("size", [16, 47, 64])
def test_a_list_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    with pytest.raises(MalformedError, match="needs 48"):
        partial.expect(bytes(size))


def test_a_second_list_is_refused_until_everything_is_discarded(
    tmp_path: Path, hashes: bytes
) -> None:
    partial = BlobStore(tmp_path).partial(SHA, len(DATA))
    partial.expect(hashes)
    partial.expect(hashes)
    partial.expect(b"")
    with pytest.raises(MalformedError, match="another list"):
        partial.expect(bytes(48))
    partial.discard()
    partial.expect(bytes(48))


def test_old_halves_are_told_from_young_ones(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    store = BlobStore(tmp_path)
    assert store.partials() == [SHA]
    assert store.partials(older_s=3600) == []
    two_hours_ago = time.time() - 7200
    os.utime(tmp_path / "partial" / f"{SHA}.data", (two_hours_ago, two_hours_ago))
    assert store.partials(older_s=3600) == [SHA]


def test_another_size_after_a_restart_begins_anew(tmp_path: Path) -> None:
    begun(tmp_path, 0, 1)
    partial = BlobStore(tmp_path).partial(SHA, len(DATA) + 1)
    assert partial.missing() == [(0, 3)]


def test_two_senders_of_one_blob_share_what_came(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    one, other = store.partial(SHA, len(DATA)), store.partial(SHA, len(DATA))
    one.write(0, chunk(0))
    assert other.missing() == [(1, 2)]
    with pytest.raises(MalformedError, match="being received"):
        store.partial(SHA, len(DATA) + 1)


def test_what_comes_after_the_end_changes_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path, 0, 1, 2, flush=False)
    path = partial.finish()
    assert partial.write(0, chunk(0)) is False
    partial.flush()
    assert partial.finish() == path
    assert files(tmp_path) == [f"{SHA[:2]}/{SHA}"]


def test_a_blob_that_was_deleted_can_be_received_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial(SHA, len(DATA))
    for index in range(3):
        partial.write(index, chunk(index))
    partial.finish()
    store.delete(SHA)
    again = store.partial(SHA, len(DATA))
    assert again.missing() == [(0, 3)]


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    partial = begun(tmp_path, 0)
    partial.discard()
    assert files(tmp_path) == []
    assert partial.missing() == [(0, 3)]


def test_deleting_drops_a_half_received_blob_too(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    store = BlobStore(tmp_path)
    store.delete(SHA)
    assert store.partials() == []
    assert files(tmp_path) == []


def test_half_received_blobs_are_not_listed_as_whole(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    assert BlobStore(tmp_path).all() == []


def test_the_quota_counts_whole_and_announced_bytes(tmp_path: Path) -> None:
    # 1,000 allowed: 400 whole + 500 announced leave 100.
    store = BlobStore(tmp_path, quota_bytes=1000)
    store.put(bytes(400))
    announced = store.partial("d" * 64, 500)
    with pytest.raises(TooLargeError, match="900 of the store's 1000"):
        store.put(bytes(101))
    with pytest.raises(TooLargeError):
        store.partial("e" * 64, 101)
    source = tmp_path / "source"
    source.write_bytes(bytes(101))
    with pytest.raises(TooLargeError):
        store.put_file(source)
    store.partial("e" * 64, 100)
    announced.discard()


def test_a_blob_moving_from_half_to_whole_is_counted_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=len(DATA) + 10)
    partial = store.partial(SHA, len(DATA))
    for index in range(3):
        partial.write(index, chunk(index))
    partial.finish()
    store.put(bytes(10))
    with pytest.raises(TooLargeError):
        store.put(b"x")


def test_a_blob_that_is_half_there_is_counted_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=len(DATA) + 10)
    partial = store.partial(SHA, len(DATA))
    partial.write(0, chunk(0))
    store.put(bytes(10))
    partial.discard()


def test_a_restart_does_not_count_its_own_half_received_blob_against_itself(tmp_path: Path) -> None:
    begun(tmp_path, 0)
    store = BlobStore(tmp_path, quota_bytes=len(DATA))
    assert store.partial(SHA, len(DATA)).missing() == [(1, 2)]


def test_an_announcement_nobody_holds_any_more_frees_its_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, quota_bytes=1000)
    announced = store.partial("d" * 64, 1000)
    del announced
    store.put(bytes(1000))


def test_impossible_sizes_are_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(MalformedError):
        store.partial(SHA, -1)
    with pytest.raises(TooLargeError):
        store.partial(SHA, 2**60)


def test_announcing_a_large_blob_takes_no_disk(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    partial = store.partial(SHA, 2**34)
    assert files(tmp_path) == []
    partial.write(200_000, bytes(CHUNK_BYTES))
    data = tmp_path / "partial" / f"{SHA}.data"
    assert data.stat().st_blocks * 512 < 2**20


def test_temporary_files_of_a_crash_are_removed_but_not_those_in_use(tmp_path: Path) -> None:
    BlobStore(tmp_path)
    old, new = tmp_path / "tmp" / "old", tmp_path / "tmp" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    BlobStore(tmp_path)
    assert not old.exists()
    assert new.exists()


def test_a_draft_is_no_blob_until_it_is_put(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with store.draft(lambda file: file.write(b"words")) as draft:
        assert store.all() == []
        kept = store.put_file(draft)
    assert store.all() == [kept]
    assert not draft.exists()
    with pytest.raises(OSError, match="no"), store.draft(lambda _: _raise(OSError("no"))):
        pass
    assert list((tmp_path / "tmp").iterdir()) == []


def _raise(error: Exception) -> None:
    raise error
