import zipfile
from pathlib import Path

import pytest

from hub.cli.unpack import unpack
from hub.errors import HubError


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "..\\outside"])
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    def fetch(target: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(name, "x")

    with pytest.raises(HubError, match="outside its folder"):
        unpack(fetch, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_zip_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    def fetch(target: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("a", "x" * 1000)
        target.write_bytes(target.read_bytes()[:500])

    with pytest.raises(HubError, match="didn't arrive whole"):
        unpack(fetch, tmp_path / "out")


def test_a_zip_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    def fetch(target: Path) -> None:
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("a", "x" * 1000)
        target.write_bytes(target.read_bytes().replace(b"xxxx", b"xxxy", 1))

    with pytest.raises(HubError, match="didn't arrive whole"):
        unpack(fetch, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HubError, match="can't be written"):
        unpack(lambda _: None, tmp_path / "file" / "out")
