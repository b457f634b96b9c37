from pathlib import Path

import pytest

from wire.asyncapi.__main__ import as_yaml, main

DOCS = Path(__file__).parents[3] / "docs"


def test_the_file_in_docs_is_what_the_types_say_now() -> None:
    fresh = as_yaml((DOCS / "topics.md").read_text(encoding="utf-8"))
    assert (DOCS / "asyncapi.yaml").read_text(encoding="utf-8") == fresh, (
        "docs/asyncapi.yaml is stale: a message, a topic or docs/topics.md changed. "
        "Run `make asyncapi` (or `python -m wire.asyncapi docs`) and commit what it writes."
    )


def test_the_file_is_written_beside_the_page_it_takes_its_words_from(tmp_path: Path) -> None:
    page = "### `Hello`\n\n| `id` | text | a word of its own |\n"
    (tmp_path / "topics.md").write_text(page)
    assert main([str(tmp_path)]) == 0
    assert "description: a word of its own" in (tmp_path / "asyncapi.yaml").read_text()


def test_another_folder_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == main([]) == 2
    assert capsys.readouterr().err.count("usage: python -m wire.asyncapi DOCS") == 2
    assert list(tmp_path.iterdir()) == []
