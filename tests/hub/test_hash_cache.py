import hashlib
import os
from pathlib import Path

from hub.hash_cache import HashCache


def test_a_file_is_hashed_once_and_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    cache = HashCache(tmp_path / "state" / "hashes.json")
    assert cache.sha256(path) == hashlib.sha256(b"one").hexdigest()

    times = path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=(times, times))  # same size, same time: must not be read
    again = HashCache(tmp_path / "state" / "hashes.json")
    assert again.sha256(path) == hashlib.sha256(b"one").hexdigest()

    os.utime(path, ns=(times, times + 1))
    assert again.sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_a_broken_cache_only_costs_time(tmp_path: Path) -> None:
    path, file = tmp_path / "weights", tmp_path / "hashes.json"
    path.write_bytes(b"one")
    for content in (b"{", b"[]", b"\xff", b'{"a": 1}'):
        file.write_bytes(content)
        assert HashCache(file).sha256(path) == hashlib.sha256(b"one").hexdigest()
