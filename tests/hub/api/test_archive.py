import io
import os
import zipfile
from pathlib import Path

from hub.api.archive import folder_files, zip_stream


def packed(folder: Path) -> bytes:
    return b"".join(zip_stream(folder, folder_files(folder)))


def test_a_folder_comes_back_whole_and_links_stay_out(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    (folder / "prompt").mkdir(parents=True)
    weights = os.urandom(700_000)  # several blocks
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "prompt" / "adapter_config.json").write_text("{}")
    (folder / "empty").write_bytes(b"")
    (tmp_path / "secret").write_text("no")
    (folder / "link").symlink_to(tmp_path / "secret")
    with zipfile.ZipFile(io.BytesIO(packed(folder))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [
            "adapter_model.safetensors",
            "empty",
            "prompt/adapter_config.json",
        ]
        assert archive.read("adapter_model.safetensors") == weights


def test_equal_folders_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    os.utime(tmp_path / "b" / "file", (1, 1))
    assert packed(tmp_path / "a") == packed(tmp_path / "b")


def test_a_large_file_is_sent_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    assert max(len(piece) for piece in zip_stream(tmp_path, folder_files(tmp_path))) < 400_000
