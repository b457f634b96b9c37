"""The HTTPS address for devices: how they get a certificate, and base models besides.

Strangers reach it. So bodies are bounded, failures are limited by address, and nothing of a
request is logged but its address.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from hub.api.answers import add_error_answers, document
from hub.api.control import HubControl
from hub.api.fetch import fetch_routes
from hub.fleet.enrolment import EnrolmentRefusedError
from hub.fleet.rate_limit import RateLimit
from wire.enrolment import MAX_ENROLMENT_BYTES, EnrolFailure, EnrolReply, EnrolRequest, RenewRequest
from wire.errors import MalformedError
from wire.version import LORIKEET_VERSION

#: Few kilobytes; a phone far away sends them in less.
_BODY_S = 20.0

T = TypeVar("T", EnrolRequest, RenewRequest)


class EnrolmentDesk(Protocol):
    """What the HTTPS layer asks; called from several threads at once."""

    def ca_pem(self) -> str:
        """Return the authority's certificate."""

    def enrol(self, request: EnrolRequest, where: str) -> EnrolReply:
        """Answer a device with a token.

        Raises:
            EnrolmentRefusedError: it gets no certificate.
            MalformedError: its certificate request can't be used.
        """

    def renew(self, request: RenewRequest, where: str) -> EnrolReply:
        """Answer an enrolled device; raises the same."""


def create_enrolment_app(
    desk: EnrolmentDesk, control: HubControl, clock: Callable[[], float] = time.monotonic
) -> FastAPI:
    """Return the application for devices.

    Args:
        desk: decides.
        control: has the base models.
        clock: monotonic, in seconds.
    """
    app = FastAPI(
        title="Lorikeet enrolment",
        version=LORIKEET_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    add_error_answers(app)
    limit = RateLimit(clock())

    @app.get("/v1/ca")
    def ca() -> Response:
        """Return the authority, which a device compares with its token's fingerprint."""
        return Response(desk.ca_pem(), media_type="application/x-pem-file")

    @app.post("/v1/enrol")
    async def enrol(request: Request) -> Response:
        return await answer(request, EnrolRequest, desk.enrol)

    @app.post("/v1/renew")
    async def renew(request: Request) -> Response:
        return await answer(request, RenewRequest, desk.renew)

    async def answer(
        request: Request, kind: type[T], decide: Callable[[T, str], EnrolReply]
    ) -> Response:
        where = request.client.host if request.client is not None else "unknown"
        too_many = _failure("too many requests from there; wait a minute.", 429, final=False)
        if not limit.allows(where, clock()):
            return too_many
        try:
            asked = msgspec.json.decode(await _body(request), type=kind)
            reply = await run_in_threadpool(decide, asked, where)
        except EnrolmentRefusedError as error:
            words, status = str(error), error.status
        except HTTPException as error:
            words, status = f"{error.detail}.", error.status_code
        except (MalformedError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            words = str(error) if isinstance(error, MalformedError) else "that is no such request"
            status = 422
        else:
            return document(reply)
        return _failure(words, status) if limit.failed(where, clock()) else too_many

    app.include_router(fetch_routes(control))
    return app


def _failure(error: str, status: int, *, final: bool = True) -> Response:
    return document(EnrolFailure(error=error, final=final), status)


async def _body(request: Request) -> bytes:
    """Return the body, of which no more than the cap is ever held, and not waited for for long."""
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MAX_ENROLMENT_BYTES:
                    raise HTTPException(413, f"a request has at most {MAX_ENROLMENT_BYTES} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the request took more than {_BODY_S:.0f} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection was closed") from None
    return bytes(data)
