"""What devices ask the hub: handed to the job whose task it is, or refused."""

from collections.abc import Callable, Mapping

from hub.fleet.sessions import Sessions
from hub.rounds.job_run import JobRun
from hub.rounds.reception import Reception
from wire.messages import (
    BlobFin,
    BlobGet,
    BlobInit,
    Evaluated,
    Refused,
    Reply,
    Result,
    Take,
)

Request = Take | Evaluated | Result | BlobInit | BlobFin | BlobGet


class Requests:
    """The desk for requests of devices whose session is known.

    Args:
        jobs: by name.
        sessions: of all devices.
        reception: replies, and handles what concerns blobs.
    """

    def __init__(
        self, jobs: Mapping[str, JobRun], sessions: Sessions, reception: Reception
    ) -> None:
        self._jobs = jobs
        self._sessions = sessions
        self._reception = reception

    def on_request(self, device: str, request: Request) -> bool:
        """Handle a request; True if a job may want something else now."""
        match request:
            case BlobInit():
                self._reception.on_blob_init(device, request)
            case BlobFin():
                self._reception.on_blob_fin(device, request)
            case BlobGet():
                self._reception.on_blob_get(device, request)
            case Take():
                self._answer(device, request, lambda job: job.results.on_take(device, request))
            case Evaluated():
                self._answer(device, request, lambda job: job.results.on_evaluated(device, request))
            case Result():
                self._on_result(device, request)
        return isinstance(request, Take | Evaluated | Result)

    def _answer(
        self, device: str, request: Take | Evaluated, handle: Callable[[JobRun], Reply | None]
    ) -> None:
        for job in self._jobs.values():
            reply = handle(job)
            if reply is not None:
                self._reception.reply(device, reply)
                return
        self._refuse_unknown(device, request)

    def _on_result(self, device: str, result: Result) -> None:
        known = self._sessions.devices[device]
        known.peak_bytes = max(known.peak_bytes, result.peak_bytes)
        known.predicted_peak_bytes = result.predicted_peak_bytes
        known.bytes_up, known.bytes_down = result.bytes_up, result.bytes_down

        def reply(answer: Reply) -> None:
            self._reception.reply(device, answer)

        if not any(job.results.on_result(device, result, reply) for job in self._jobs.values()):
            self._refuse_unknown(device, result)

    def _refuse_unknown(self, device: str, request: Take | Evaluated | Result) -> None:
        reason = f"no job of this hub has a task {request.task}."
        refused = Refused(re=request.id, session=request.session, reason=reason)
        self._reception.reply(device, refused)


def allowed_bytes(jobs: Mapping[str, JobRun], device: str, task: str) -> int | None:
    """Return how large the update of a task may be; None: no job waits for one."""
    for job in jobs.values():
        allowed = job.results.allowed_bytes(device, task)
        if allowed is not None:
            return allowed
    return None
