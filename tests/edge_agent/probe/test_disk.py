"""The room of the file system that the state folder is on."""

import shutil
from pathlib import Path

from edge_agent.probe.disk import disk


def test_a_folder_that_is_not_there_yet_counts_where_it_will_be(tmp_path: Path) -> None:
    found = disk(tmp_path / "not" / "yet")
    assert found.folder == str(tmp_path / "not" / "yet")
    assert found.total_bytes == shutil.disk_usage(tmp_path).total
    assert found.free_bytes is not None
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_name_that_no_folder_can_have_is_null_with_the_reason(tmp_path: Path) -> None:
    found = disk(tmp_path / ("x" * 300))
    assert (found.free_bytes, found.total_bytes) == (None, None)
    assert "too long" in found.missing["free_bytes"]
