"""A server's answers, asked for over HTTP and read as they come."""

import json
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from edge_agent.errors import AgentError, UsageError

_TIMEOUT_S = 600.0
_MAX_LINE_BYTES = 1024 * 1024


class Remote:
    """A server by its address.

    Args:
        url: with or without ``/v1``.
        token: that it wants; None for none.
        max_tokens: of each answer; None: as the server has it.
        temperature: of answers.

    Raises:
        UsageError: the address is none.
    """

    def __init__(
        self, url: str, token: str | None, *, max_tokens: int | None, temperature: float
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--url is {url!r}; must begin with http:// or https://.")
        self._url = url
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._kind: type[HTTPConnection] = kind
        self._address = parts.hostname, parts.port
        self._path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._wish: dict[str, Any] = {"temperature": temperature, "stream": True}
        if max_tokens is not None:
            self._wish["max_tokens"] = max_tokens

    def __call__(self, turns: Sequence[Mapping[str, str]]) -> Iterator[str]:
        """Yield the pieces of the answer to a conversation.

        Raises:
            AgentError: the server can't be reached, or refuses.
        """
        connection = self._kind(*self._address, timeout=_TIMEOUT_S)
        try:
            body = json.dumps({**self._wish, "messages": list(turns)}).encode()
            connection.request("POST", self._path, body, self._headers)
            yield from _pieces(connection.getresponse())
        except (OSError, HTTPException) as error:
            raise AgentError(
                f"{self._url} can't be reached ({error}). Is it running? Start it with: "
                "lorikeet-agent serve"
            ) from error
        finally:
            connection.close()


def _pieces(response: HTTPResponse) -> Iterator[str]:
    if response.status != 200:
        raise AgentError(f"the server refuses: {_said(response.read(_MAX_LINE_BYTES))}")
    while line := response.readline(_MAX_LINE_BYTES):
        if not line.startswith(b"data: "):
            continue
        data = line.removeprefix(b"data: ").strip()
        if data == b"[DONE]":
            return
        document = json.loads(data)
        if "error" in document:
            raise AgentError(f"the answer broke off: {_said(data)}")
        for choice in document.get("choices", []):
            yield choice.get("delta", {}).get("content") or ""


def _said(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace") or "it says nothing."
