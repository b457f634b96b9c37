"""The hub's HTTP application, put together from the routes of each topic."""

from fastapi import FastAPI
from starlette.responses import Response

from hub.api.access import TokenRequired
from hub.api.answers import add_error_answers, document
from hub.api.control import HubControl
from hub.api.devices import device_routes
from hub.api.fetch import fetch_routes
from hub.api.jobs import job_routes
from hub.metrics.exposition import CONTENT_TYPE as METRICS_TYPE
from wire.version import LORIKEET_VERSION


def create_app(control: HubControl, token: str | None = None) -> FastAPI:
    """Return the application that serves a hub over HTTP.

    Args:
        control: the hub.
        token: what callers must send; None: everybody is let in.
    """
    # The interactive pages would load their scripts from the internet.
    app = FastAPI(title="Lorikeet", version=LORIKEET_VERSION, docs_url=None, redoc_url=None)
    add_error_answers(app)
    if token is not None:
        app.add_middleware(TokenRequired, token=token)

    @app.get("/healthz")
    def healthz() -> Response:
        return document(control.status())

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(control.metrics(), media_type=METRICS_TYPE)

    for routes in (fetch_routes, job_routes, device_routes):
        app.include_router(routes(control))
    return app
