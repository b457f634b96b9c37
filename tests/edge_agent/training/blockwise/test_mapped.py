import os
from pathlib import Path

import pytest
import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.mapped import MappedFile


def test_a_view_holds_the_files_bytes_also_after_they_were_given_back(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "f").write_bytes(content)
    file = MappedFile(tmp_path / "f")
    view = file.view(10, 90_000)
    expected = torch.frombuffer(bytearray(content[10:90_000]), dtype=torch.uint8)
    assert torch.equal(view, expected)
    file.release(10, 90_000)
    file.release(0, file.size_bytes)
    file.ahead(0, file.size_bytes)
    file.ahead(5, 5)
    assert torch.equal(view, expected)


def test_a_view_outlives_the_file_that_was_closed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(200)))
    file = MappedFile(tmp_path / "f")
    view = file.view(7, 9)
    file.close()
    assert view.tolist() == [7, 8]


@pytest.mark.parametrize("made", [False, True])
def test_a_file_that_is_missing_or_empty_is_named(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "f").touch()
    with pytest.raises(ModelError, match=r"f can't be mapped"):
        MappedFile(tmp_path / "f")
