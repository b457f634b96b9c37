"""Files stay open while they are few, and are as large as they will be from the first byte on."""

from pathlib import Path

from wire.open_files import MOST_OPEN, OpenFiles


def open_now(folder: Path) -> set[str]:
    """Names of the files in a folder that this process has open."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        try:
            target = one.readlink()
        except FileNotFoundError:
            continue
        if target.parent == folder:
            found.add(target.name)
    return found


def test_a_file_has_its_size_at_once_and_holes_where_nothing_was_written(tmp_path: Path) -> None:
    files = OpenFiles()
    files.write(tmp_path / "a", b"xyz", 5, 10, new=b"HEAD")
    assert (tmp_path / "a").read_bytes() == b"HEAD\0xyz\0\0"
    files.write(tmp_path / "a", b"!", 0, 10, new=b"HEAD")
    assert (tmp_path / "a").read_bytes() == b"!EAD\0xyz\0\0"


def test_what_is_there_already_is_kept(tmp_path: Path) -> None:
    OpenFiles().write(tmp_path / "a", b"xyz", 0, 10, new=b"H")
    OpenFiles().write(tmp_path / "a", b"!", 3, 10, new=b"H")
    assert (tmp_path / "a").read_bytes() == b"xyz!" + bytes(6)


def test_only_so_many_stay_open_the_last_ones(tmp_path: Path) -> None:
    files = OpenFiles()
    for number in range(MOST_OPEN + 3):
        files.write(tmp_path / str(number), b"x", 0, 1)
        files.write(tmp_path / "often", b"x", 0, 1)
    still = open_now(tmp_path)
    assert len(still) == MOST_OPEN
    assert {"often", str(MOST_OPEN + 2)} <= still
    assert "0" not in still
    files.write(tmp_path / "0", b"y", 0, 1)
    assert (tmp_path / "0").read_bytes() == b"y"


def test_files_are_closed_when_asked_and_at_the_end(tmp_path: Path) -> None:
    files = OpenFiles()
    for name in "ab":
        files.write(tmp_path / name, b"x", 0, 1)
    files.close(tmp_path / "a")
    files.close(tmp_path / "never opened")
    assert open_now(tmp_path) == {"b"}
    del files
    assert open_now(tmp_path) == set()


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    OpenFiles().write(tmp_path / "a", b"x", 0, 1)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
