"""What devices fetch: a base model's manifest by its digest, and files by their sha256."""

import re

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from hub.api.answers import document
from hub.api.control import HubControl
from hub.errors import NotFoundError

_RETRY_S = 2  # how soon to ask again for what is being made
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def fetch_routes(control: HubControl) -> APIRouter:
    """Return the routes under ``/v1/models`` and ``/v1/blobs``."""
    router = APIRouter(prefix="/v1")

    @router.get("/models/{digest}")
    def model(digest: str) -> Response:
        """Return the manifest's very bytes: their sha256 is the digest."""
        manifest = control.model_manifest(_checked(digest))
        return Response(manifest, media_type="application/json", headers=_unchanging(digest))

    @router.get("/models/{digest}/derived/{kind}")
    def derived(digest: str, kind: str) -> Response:
        """Return where a base's derived files are; 202 while they are made."""
        found = control.derived_base(_checked(digest), kind)
        if found.state == "ready":
            return document(found)
        answer = document(found, 202)
        answer.headers["retry-after"] = str(_RETRY_S)
        return answer

    @router.api_route("/blobs/{sha256}", methods=["GET", "HEAD"])
    def blob(sha256: str) -> Response:
        """Return a file, or the range of it that the request names (RFC 9110, section 14)."""
        path = control.blob_path(_checked(sha256))
        media_type = "application/octet-stream"
        return FileResponse(path, media_type=media_type, headers=_unchanging(sha256))

    return router


def _checked(sha256: str) -> str:
    if not _SHA256.match(sha256):
        raise NotFoundError(f"{sha256[:80]!r} is no sha256; allowed are 64 hexadecimal digits.")
    return sha256


def _unchanging(sha256: str) -> dict[str, str]:
    return {"etag": f'"{sha256}"', "cache-control": "public, max-age=31536000, immutable"}
