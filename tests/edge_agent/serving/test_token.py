"""The token of callers comes from a file or the environment, and is long enough to be one."""

from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.serve_command import TOKEN_VARIABLE
from edge_agent.serving.token import read_token


def test_where_a_token_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment")
    assert read_token(None) == "from-the-environment"
    (tmp_path / "t").write_text(" from-the-first-line \nmore\n")
    assert read_token(str(tmp_path / "t")) == "from-the-first-line"


def test_what_is_no_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc\n")
    (tmp_path / "empty").write_text("")
    for name, said in (("short", "3 characters"), ("empty", "0 characters"), ("none", "be read")):
        with pytest.raises(UsageError, match=said):
            read_token(str(tmp_path / name))
