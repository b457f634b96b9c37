"""One request on one connection: read, answered in whole or in pieces, given up with its client."""

import queue
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

from edge_agent.errors import ModelError
from edge_agent.inference.errors import EngineError
from edge_agent.serving.generation import Begun, Broke, Ended, Generation, Piece, Told
from edge_agent.serving.openai_answers import Answer, failure
from edge_agent.serving.openai_requests import (
    ChatRequest,
    CompletionRequest,
    InvalidRequestError,
    parse_chat,
    parse_completion,
)
from edge_agent.serving.scheduler import FullError
from edge_agent.serving.service import QuestionError, Service

_LOOK_S = 0.25


class Connection(Protocol):
    """What is done on a client's connection."""

    def send_document(
        self, status: HTTPStatus, document: Any, headers: dict[str, str] | None = None
    ) -> None: ...

    def send_failure(
        self,
        status: HTTPStatus,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None: ...

    def begin_stream(self) -> None: ...

    def send_event(self, document: Any) -> None: ...

    def gone(self) -> bool: ...


def answer(client: Connection, service: Service, body: bytes, *, chat: bool) -> None:
    """Answer a request; whatever goes wrong is told to its client.

    Args:
        client: that asks.
        service: that answers.
        body: of the request.
        chat: whether it asks for a conversation's next turn.

    Raises:
        OSError: the client is gone.
    """
    try:
        asked: ChatRequest | CompletionRequest
        if chat:
            asked = chat_asked = parse_chat(body, service.name)
            generation = service.chat(chat_asked.turns, chat_asked.wish)
        else:
            asked = text_asked = parse_completion(body, service.name)
            generation = service.complete(text_asked.text, text_asked.wish)
    except InvalidRequestError as error:
        missing = error.code == "model_not_found"
        status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.BAD_REQUEST
        client.send_failure(status, str(error), param=error.param, code=error.code)
        return
    except QuestionError as error:
        client.send_failure(HTTPStatus.BAD_REQUEST, str(error), code="context_length_exceeded")
        return
    except ModelError as error:
        client.send_failure(HTTPStatus.BAD_REQUEST, str(error), param="messages")
        return
    except FullError as error:
        client.send_failure(HTTPStatus.TOO_MANY_REQUESTS, str(error), headers={"Retry-After": "1"})
        return
    except EngineError as error:
        client.send_failure(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return
    try:
        if asked.stream:
            _stream(client, service, generation, chat=chat, usage=asked.with_usage)
        else:
            _whole(client, service, generation, chat=chat)
    finally:
        generation.cancelled.set()  # does nothing to one that has ended


def _stream(
    client: Connection, service: Service, generation: Generation, *, chat: bool, usage: bool
) -> None:
    told = _told(client, generation)
    begun = next(told, None)
    if begun is None:
        return
    if isinstance(begun, Broke):
        client.send_failure(HTTPStatus.SERVICE_UNAVAILABLE, begun.message)
        return
    adapter = begun.adapter if isinstance(begun, Begun) else ""
    made = Answer(chat, service.name, adapter)
    client.begin_stream()
    first = made.first()
    if first is not None:
        client.send_event(first)
    for one in told:
        match one:
            case Piece():
                client.send_event(made.piece(one.text))
            case Ended():
                client.send_event(made.last(one))
                if usage:
                    client.send_event(made.usage(one))
                client.send_event(b"[DONE]")
            case Broke():
                client.send_event(failure(one.message, "server_error"))
            case Begun():
                pass


def _whole(client: Connection, service: Service, generation: Generation, *, chat: bool) -> None:
    text: list[str] = []
    adapter = ""
    for one in _told(client, generation):
        match one:
            case Begun():
                adapter = one.adapter
            case Piece():
                text.append(one.text)
            case Ended():
                document = Answer(chat, service.name, adapter).whole("".join(text), one)
                client.send_document(HTTPStatus.OK, document)
            case Broke():
                client.send_failure(HTTPStatus.SERVICE_UNAVAILABLE, one.message)


def _told(client: Connection, generation: Generation) -> Iterator[Told]:
    """Yield what comes of a request up to its end, or up to its client's."""
    look_at = time.monotonic() + _LOOK_S
    while True:
        if time.monotonic() >= look_at:
            if client.gone():
                return
            look_at = time.monotonic() + _LOOK_S
        try:
            one = generation.told.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
        yield one
        if isinstance(one, Ended | Broke):
            return
