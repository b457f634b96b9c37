"""Answers of the HTTP layer: JSON documents, and one shape for every error."""

import logging
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.api.control import Failure
from hub.errors import ConfigError, ConflictError, HubError, NotFoundError

log = logging.getLogger(__name__)


def document(value: Any, status: int = 200) -> Response:
    """Return a document as JSON; numbers that aren't finite become null."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def add_error_answers(app: FastAPI) -> None:
    """Make the app answer every error with a `Failure`."""
    app.add_exception_handler(HubError, _hub_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TimeoutError, _busy)


def _hub_error(request: Request, error: Exception) -> Response:
    match error:
        case ConfigError():
            value = error.value if isinstance(error.value, str | int | float | None) else None
            failure = Failure(
                error=str(error),
                kind="config",
                path=error.path,
                value=value,
                allowed=error.allowed,
            )
            return document(failure, 422)
        case NotFoundError():
            return document(Failure(error=str(error), kind="not_found"), 404)
        case ConflictError():
            return document(Failure(error=str(error), kind="conflict"), 409)
        case _:
            log.error("%s %s: %s", request.method, request.url.path, error)
            return document(Failure(error=str(error)), 500)


def _busy(request: Request, _error: Exception) -> Response:
    log.error("%s %s: the hub did not answer in time", request.method, request.url.path)
    return document(Failure(error="the hub is busy and did not answer in time; try again."), 503)


def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = error.detail if isinstance(error, HTTPException) else "failed"
    sentence = f"{request.method} {request.url.path}: {words}."
    failure = Failure(error=sentence, kind="not_found" if status == 404 else "failed")
    answer = document(failure, status)
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
