"""Sends an update's chunks: at most a window of them under way, then asks what is missing.

The hub answers `blob-init` and `blob-fin` with what it still lacks, so a lost chunk, a lost
reply and a restart on either side are one and the same case.
"""

import logging
import time
from typing import TYPE_CHECKING

from edge_agent.task_run import TaskRun
from wire.messages import Accepted, BlobFin, BlobInit, Credit, Refused, Reply
from wire.transfer import CHUNK_BYTES, Upload, chunk_size, encode_chunk

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


class Uploads:
    """The upload of the running task's update; there is at most one."""

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._task: TaskRun | None = None
        self._upload: Upload | None = None
        self._request: str | None = None

    def begin(self, task: TaskRun) -> None:
        """Start, or do nothing if this upload is already under way."""
        if self._task is task or task.update is None:
            return
        self._task = task
        task.uploading = True
        task.upload_started_at = time.monotonic()
        self._upload = Upload(task.update_bytes)
        request = self._agent.asking.new_id()
        self._ask(
            request,
            BlobInit(
                id=request,
                session=self._agent.session,
                task=task.offer.task,
                sha256=task.update,
                size_bytes=task.update_bytes,
            ),
        )

    def cancel(self) -> None:
        """Stop; what the hub has of it, it keeps or drops as it likes."""
        if self._request is not None:
            self._agent.asking.forget(self._request)
        self._task = self._upload = self._request = None

    def _on_credit(self, credit: Credit) -> None:
        """Send what the hub lacks, and ask again."""
        task, upload = self._task, self._upload
        if task is None or upload is None or credit.sha256 != task.update:
            return
        path = self._agent.blobs.path(credit.sha256)
        if path is None:
            return
        topic = self._agent.topics.upload_chunk(self._agent.settings.device)
        with path.open("rb") as file:
            for index in upload.on_credit(credit.missing, credit.window):
                file.seek(index * CHUNK_BYTES)
                data = file.read(chunk_size(task.update_bytes, index))
                self._agent.link.publish(topic, encode_chunk(credit.sha256, index, data))
        request = self._agent.asking.new_id()
        self._ask(
            request,
            BlobFin(
                id=request,
                session=self._agent.session,
                task=task.offer.task,
                sha256=credit.sha256,
            ),
        )

    def _ask(self, request: str, message: BlobInit | BlobFin) -> None:
        self._request = request
        self._agent.asking.ask(request, message, self._on_reply, time.monotonic())

    def _on_reply(self, reply: Reply) -> None:
        task = self._task
        if task is None:
            return
        match reply:
            case Credit():
                self._on_credit(reply)
            case Accepted():
                task.uploaded = True
                task.uploading = False
                task.upload_s = time.monotonic() - task.upload_started_at
                self.cancel()
                self._agent.tasks.advance()
            case Refused():
                log.warning("the hub refused the update: %s", reply.reason)
                task.uploading = False
                task.update = None
                task.failure = f"upload refused: {reply.reason}"
                self.cancel()
                self._agent.tasks.advance()
            case _:
                log.warning("unexpected reply to an upload: %s", type(reply).__name__)
