"""Public text of each form, by hand; what can't be read is passed over."""

from pathlib import Path

import pytest

from hub.errors import ConfigError
from hub.pretrain.text import text_files, texts


def test_text_and_json_lines_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\ntwo")
    (tmp_path / "sub").mkdir()
    lines = ['{"text": "three"}', "{cut", '{"prompt": "four", "response": "five"}', '{"x": 1}']
    (tmp_path / "sub" / "b.jsonl").write_text("\n".join(lines))
    (tmp_path / "c.md").write_text("never")
    (tmp_path / "d.txt").symlink_to(tmp_path / "c.md")
    assert list(texts(text_files(tmp_path))) == ["one\n", "two", "three", "four", "five"]
    assert list(texts(text_files(tmp_path / "a.txt"))) == ["one\n", "two"]


@pytest.mark.parametrize("name", ["none.txt", "c.md", "empty"])
def test_a_path_without_text_is_refused_with_its_key(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.md").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=name) as caught:
        text_files(tmp_path / name)
    assert caught.value.path == "pretrain.tokenizer_text"
