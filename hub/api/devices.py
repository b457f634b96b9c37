"""Devices: list and show."""

from fastapi import APIRouter
from starlette.responses import Response

from hub.api.answers import document
from hub.api.control import HubControl


def device_routes(control: HubControl) -> APIRouter:
    """Return the routes under ``/v1/devices``."""
    router = APIRouter(prefix="/v1/devices")

    @router.get("")
    def devices() -> Response:
        return document(control.list_devices())

    @router.get("/{device}")
    def show(device: str) -> Response:
        return document(control.show_device(device))

    return router
