"""Jobs: submit, list, show, cancel; the record and the adapter of one."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from hub.api.answers import document
from hub.api.archive import folder_files, zip_stream
from hub.api.control import HubControl
from hub.yaml_file import MAX_FILE_BYTES, decode_text

#: No form and no script of a foreign web page can send these without asking first (CORS).
_MEDIA_TYPES = ("application/yaml", "application/x-yaml")


def job_routes(control: HubControl) -> APIRouter:
    """Return the routes under ``/v1/jobs``."""
    router = APIRouter(prefix="/v1/jobs")

    @router.post("")
    async def submit(request: Request) -> Response:
        """Start a job; the body is the job file."""
        text = decode_text(await _body(request), "the job file")
        # Hashing or fetching a base model takes its time.
        return document(await run_in_threadpool(control.submit_job, text), 201)

    @router.get("")
    def jobs() -> Response:
        return document(control.list_jobs())

    @router.get("/{job}")
    def show(job: str) -> Response:
        return document(control.show_job(job))

    @router.delete("/{job}")
    def cancel(job: str) -> Response:
        return document(control.cancel_job(job))

    @router.get("/{job}/events")
    def events(job: str) -> Response:
        return document(control.events(job))

    @router.get("/{job}/adapter")
    def adapter(job: str) -> Response:
        """Return the newest adapter's PEFT folder as a zip."""
        folder = control.adapter_folder(job)
        return StreamingResponse(
            zip_stream(folder, folder_files(folder)),
            media_type="application/zip",
            headers={"content-disposition": 'attachment; filename="adapter.zip"'},
        )

    return router


async def _body(request: Request) -> bytes:
    """Return the body, of which no more than the cap is ever held."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES:
        detail = f"the content type is {media_type or 'missing'}; allowed is application/yaml"
        raise HTTPException(415, detail)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise HTTPException(413, f"a job file has at most {MAX_FILE_BYTES} bytes")
    return bytes(data)
