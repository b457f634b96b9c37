"""Files that only their owner may read."""

import os
from pathlib import Path

import pytest

from wire import private_file
from wire.private_file import write_private, write_privately


def test_a_file_is_for_its_owner_alone_whatever_the_mask_says(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        write_private(tmp_path / "keys" / "key.pem", b"secret")
    finally:
        os.umask(mask)
    assert (tmp_path / "keys" / "key.pem").read_bytes() == b"secret"
    assert oct((tmp_path / "keys" / "key.pem").stat().st_mode & 0o777) == "0o600"
    assert oct((tmp_path / "keys").stat().st_mode & 0o777) == "0o700"


def test_what_was_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"x" * 1000)
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "key.pem").mkdir()  # can't be replaced by a file
    with pytest.raises(OSError):
        write_private(tmp_path / "key.pem", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.root
def test_root_leaves_a_file_to_the_user_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "broker.key"
    path.write_bytes(b"old")
    os.chown(path, 65_534, 65_534)
    write_private(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (65_534, 65_534)


def test_of_two_files_none_is_replaced_if_one_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "a.key", tmp_path / "a.pem"
    write_privately({key: b"old key", certificate: b"old certificate"})
    whole = private_file._draft

    def full(path: Path, content: bytes) -> Path:
        if path == certificate:
            raise OSError(28, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(private_file, "_draft", full)
    with pytest.raises(OSError, match="No space"):
        write_privately({key: b"new key", certificate: b"new certificate"})
    assert (key.read_bytes(), certificate.read_bytes()) == (b"old key", b"old certificate")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.key", "a.pem"]
