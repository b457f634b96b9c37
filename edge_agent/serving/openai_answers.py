"""What OpenAI's interface answers: whole documents, and the chunks of a stream.

Source: https://platform.openai.com/docs/api-reference (chat, completions, streaming).
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from edge_agent.serving.generation import Ended


@dataclass(frozen=True)
class Answer:
    """One answer's documents.

    Attributes:
        chat: whether it is one of a conversation.
        model: its name.
        adapter: that it is made with; the interface's ``system_fingerprint``.
    """

    chat: bool
    model: str
    adapter: str
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, ended: Ended) -> dict[str, Any]:
        """Return the answer as one document."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": ended.reason, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return self._document([choice], chunk=False) | {"usage": _usage(ended)}

    def first(self) -> dict[str, Any] | None:
        """Return the chunk with which a conversation's answer begins, None of a text."""
        return self._chunk({"role": "assistant", "content": ""}) if self.chat else None

    def piece(self, text: str) -> dict[str, Any]:
        """Return a chunk with a piece of the answer."""
        return self._chunk({"content": text}) if self.chat else self._chunk(text)

    def last(self, ended: Ended) -> dict[str, Any]:
        """Return the chunk that says how the answer ended."""
        return self._chunk({} if self.chat else "", ended.reason)

    def usage(self, ended: Ended) -> dict[str, Any]:
        """Return the chunk with the counts, for a client that wants them."""
        return self._document([], chunk=True) | {"usage": _usage(ended)}

    def _chunk(self, content: Any, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice["delta" if self.chat else "text"] = content
        return self._document([choice], chunk=True)

    def _document(self, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.chat:
            kind = "chat.completion.chunk" if chunk else "chat.completion"
        return {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.adapter,
            "choices": choices,
        }


def models(name: str, created: int) -> dict[str, Any]:
    """Return the list of the one model."""
    one = {"id": name, "object": "model", "created": created, "owned_by": "lorikeet"}
    return {"object": "list", "data": [one]}


def failure(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Return an error; ``kind`` is its ``type`` in the interface's words."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _usage(ended: Ended) -> dict[str, Any]:
    return {
        "prompt_tokens": ended.asked,
        "completion_tokens": ended.answered,
        "total_tokens": ended.asked + ended.answered,
        "prompt_tokens_details": {"cached_tokens": ended.reused},
    }
