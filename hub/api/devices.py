"""Devices: list and show; tokens, and what an operator decides of who asks to enrol."""

from typing import Literal, TypeVar

import msgspec
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.address import is_loopback
from hub.api.access import CARRIED
from hub.api.answers import document
from hub.api.control import Decision, HubControl, TokenOrder

T = TypeVar("T")
_MAX_BODY_BYTES = 4096


def device_routes(control: HubControl) -> APIRouter:
    """Return the routes under ``/v1/devices``, ``/v1/tokens`` and ``/v1/door``."""
    router = APIRouter(prefix="/v1")

    @router.get("/devices")
    def devices() -> Response:
        return document(control.list_devices())

    @router.get("/devices/{device}")
    def show(device: str) -> Response:
        return document(control.show_device(device))

    @router.post("/tokens")
    async def tokens(request: Request) -> Response:
        order = await _body(request, TokenOrder)
        return document(await run_in_threadpool(control.make_tokens, order), 201)

    @router.post("/devices/{device}/approve")
    async def approve(device: str, request: Request) -> Response:
        return await decide(device, "approve", request)

    @router.post("/devices/{device}/reject")
    async def reject(device: str, request: Request) -> Response:
        return await decide(device, "reject", request)

    @router.post("/devices/{device}/revoke")
    async def revoke(device: str, request: Request) -> Response:
        return await decide(device, "revoke", request)

    async def decide(
        device: str, what: Literal["approve", "reject", "revoke"], request: Request
    ) -> Response:
        decision = await _body(request, Decision)
        return document(await run_in_threadpool(control.decide, device, what, decision.reason))

    @router.get("/door")
    def door() -> Response:
        return document(control.door())

    return router


async def _body(request: Request, kind: type[T]) -> T:
    """Return an operator's order: whoever has the hub's token is one, and where there is none,
    who is on this machine.
    """
    here = request.client is not None and is_loopback(request.client.host)
    if not (getattr(request.state, CARRIED, False) or here):
        raise HTTPException(
            403, "only a client on the hub's own machine may decide that (or set http.token_file)"
        )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":  # which no form of a foreign web page can send
        raise HTTPException(415, "the content type must be application/json")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise HTTPException(413, f"the body has at most {_MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(bytes(data), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(422, f"the body is not a {kind.__name__}: {error}") from error
