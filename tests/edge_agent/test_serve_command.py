"""The options of serve and chat that can't be right are refused before anything is opened."""

import pytest

from edge_agent.errors import UsageError
from edge_agent.serve_command import TOKEN_VARIABLE, address_of, check_token


def test_addresses() -> None:
    assert address_of("127.0.0.1:8090") == ("127.0.0.1", 8090)
    assert address_of("[::1]:0") == ("::1", 0)
    for wrong in ("8090", ":8090", "host:", "host:x", "host:70000"):
        with pytest.raises(UsageError, match="--listen"):
            address_of(wrong)


def test_others_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    check_token("localhost", None)
    check_token("0.0.0.0", "file")  # noqa: S104 - not listened on
    with pytest.raises(UsageError, match="--token-file"):
        check_token("0.0.0.0", None)  # noqa: S104
    monkeypatch.setenv(TOKEN_VARIABLE, "x" * 20)
    check_token("192.168.1.5", None)
