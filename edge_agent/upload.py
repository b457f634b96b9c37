"""Sends an update's chunks: a window of them under way, and questions what arrived of it.

The hub answers `blob-init` and `blob-fin` with what it still lacks, so a lost chunk, a lost
reply and a restart on either side are one and the same case. An update of one chunk goes right
behind its announcement, and one reply tells of both.
"""

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.task_run import TaskRun
from wire.chunk_hashes import HASH_BYTES, INLINE_CHUNKS, list_of_file
from wire.errors import MalformedError
from wire.messages import Accepted, BlobFin, BlobInit, Credit, Refused, Reply
from wire.mqtt_sizes import publish_bytes
from wire.transfer import (
    CHUNK_BYTES,
    HEADER_BYTES,
    WINDOW,
    Chunk,
    chunk_count,
    chunk_size,
    encode_chunk,
)
from wire.upload import Upload

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)

#: After which the hub is asked again when it allowed nothing, or knows nothing of an upload.
AGAIN_S = 1.0
#: After which a hub that tells by itself what came, and doesn't, is asked.
QUIET_S = 3.0
_QOS = Chunk.QOS["upload_chunk"]


class _Blob(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    size_bytes: int
    read: Callable[[int, int], bytes]  # first byte and number of bytes
    hashes: bytes = b""
    hashes_sha256: str = ""


class Uploads:
    """The upload of the running task's update; there is at most one."""

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._topic = agent.topics.upload_chunk(agent.settings.device)
        self._task: TaskRun | None = None
        self._blobs: deque[_Blob] = deque()  # still to be sent, the present one first
        self._upload: Upload | None = None
        self._questions: dict[str, int] = {}  # that are open: by request
        self._again_at: float | None = None

    def begin(self, task: TaskRun) -> None:
        """Start, or do nothing if this upload is already under way."""
        if self._task is task or task.update is None:
            return
        path = self._agent.blobs.path(task.update)
        if path is None:
            return
        self._task = task
        task.uploading = True
        task.upload_started_at = time.monotonic()
        self._blobs = deque([_file_blob(path, task.update)])
        self._announce(time.monotonic())

    def cancel(self) -> None:
        """Stop; what the hub has of it, it keeps or drops as it likes."""
        self._forget_questions()
        self._task = self._upload = None
        self._blobs.clear()
        self._agent.metering.idle(up=True)

    def ask_again(self, now: float) -> None:
        """Ask what came, since the link or the hub was away, and may have lost what was sent."""
        if self._upload is not None and self._upload.unasked:
            self._ask(now)

    def tick(self, now: float) -> None:
        """Send what may go by now."""
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            if self._upload is None:
                self._announce(now)
            else:
                self._ask(now)
        self._send(now)

    def _announce(self, now: float) -> None:
        """Begin the first blob that isn't sent, or begin it anew."""
        task, agent = self._task, self._agent
        if task is None:
            return
        self._forget_questions()
        blob = self._blobs[0]
        self._upload = Upload(blob.size_bytes)
        message = BlobInit(
            id=agent.asking.new_id(),
            session=agent.session,
            task=task.offer.task,
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            hashes=blob.hashes,
            hashes_sha256=blob.hashes_sha256,
            unasked=chunk_count(blob.size_bytes) > WINDOW // 2,  # else it is one question anyhow
        )
        self._questions[message.id] = self._upload.ask()
        follows = (
            chunk_count(blob.size_bytes) == 1
            and agent.link.connected
            and agent.metering.take_up(self._cost(blob, 0), now)
        )
        first = msgspec.structs.replace(message, follows=True) if follows else None
        agent.asking.ask(message.id, message, self._on_reply, now, first=first)
        if follows:
            self._publish([_chunk(blob, 0)])

    def _send(self, now: float) -> None:
        """Send chunks as far as window, limits and link allow, and ask when it is time."""
        upload, agent = self._upload, self._agent
        if upload is None or not agent.link.connected:
            return
        blob, together = self._blobs[0], list[bytes]()
        while (index := upload.next_chunk) is not None:
            if not agent.metering.take_up(self._cost(blob, index), now):
                break
            together.append(_chunk(blob, index))
            upload.on_sent()
            if upload.must_ask:
                self._publish(together)
                self._ask(now)
        else:
            agent.metering.idle(up=True)
        self._publish(together)
        if upload.must_ask:
            self._ask(now)
        elif self._again_at is None and (upload.stalled or upload.waits):
            self._again_at = now + (AGAIN_S if upload.stalled else QUIET_S)

    def _ask(self, now: float) -> None:
        task, upload, agent = self._task, self._upload, self._agent
        if task is None or upload is None:
            return
        request = agent.asking.new_id()
        self._questions[request] = upload.ask()
        message = BlobFin(
            id=request,
            session=agent.session,
            task=task.offer.task,
            sha256=self._blobs[0].sha256,
        )
        agent.asking.ask(request, message, self._on_reply, now)

    def _publish(self, chunks: list[bytes]) -> None:
        """Send chunks, and none of them twice; one that the link doesn't take counts as lost."""
        self._agent.link.publish_together(self._topic, chunks)
        chunks.clear()

    def _cost(self, blob: _Blob, index: int) -> int:
        return chunk_packet_bytes(self._topic, chunk_size(blob.size_bytes, index), _QOS)

    def _forget_questions(self) -> None:
        self._agent.asking.forget(*self._questions)
        self._questions.clear()
        self._again_at = None

    # Answers

    def _on_reply(self, reply: Reply) -> None:
        question = self._questions.pop(reply.re, None)
        if question is None or self._task is None:
            return
        match reply:
            case Credit():
                self._on_credit(question, reply)
            case Accepted():
                self._on_accepted(self._task)
            case Refused(final=False):
                log.info("the upload begins anew: %s", reply.reason)
                self._begin_anew()
            case Refused():
                self._on_refused(self._task, reply.reason)
            case _:
                log.warning("unexpected reply to an upload: %s", type(reply).__name__)

    def _on_credit(self, question: int, credit: Credit) -> None:
        if self._upload is None or credit.sha256 != self._blobs[0].sha256:
            return
        if credit.wrong:
            log.warning("some chunks of the update arrived wrong; the hub is told how to find them")
            self._begin_anew(with_hashes=True)
            return
        try:
            self._upload.on_credit(question, credit.missing, credit.window, unasked=credit.unasked)
        except MalformedError as error:
            log.warning("the hub's answer can't be used: %s", error)
            self._begin_anew()
            return
        self._send(time.monotonic())

    def on_unasked(self, credit: Credit) -> None:
        """Take what the hub tells without being asked.

        Raises:
            MalformedError: it isn't of this blob.
        """
        if self._upload is None or credit.sha256 != self._blobs[0].sha256:
            return
        self._upload.on_unasked(credit.missing, credit.window)
        self._again_at = None
        self._send(time.monotonic())

    def _begin_anew(self, *, with_hashes: bool = False) -> None:
        """Announce the update again, in a moment: a hub that starts has much to do."""
        task = self._task
        path = self._agent.blobs.path(task.update) if task and task.update else None
        if task is None or task.update is None or path is None:
            return
        self._forget_questions()
        self._upload = None
        whole = _file_blob(path, task.update)
        self._blobs = _with_hashes(whole, list_of_file(path)) if with_hashes else deque([whole])
        self._again_at = time.monotonic() + AGAIN_S

    def _on_accepted(self, task: TaskRun) -> None:
        self._blobs.popleft()
        if self._blobs:
            self._announce(time.monotonic())
            return
        task.uploaded = True
        task.uploading = False
        task.upload_s = time.monotonic() - task.upload_started_at
        self.cancel()
        self._agent.tasks.advance()

    def _on_refused(self, task: TaskRun, reason: str) -> None:
        log.warning("the hub refused the update: %s", reason)
        task.uploading = False
        task.update = None
        task.failure = f"upload refused: {reason}"
        self.cancel()
        self._agent.tasks.advance()


class _Reader:
    """Reads pieces of a file that stays open."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self, first: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, first)

    def __del__(self) -> None:
        os.close(self._descriptor)


def _chunk(blob: _Blob, index: int) -> bytes:
    data = blob.read(index * CHUNK_BYTES, chunk_size(blob.size_bytes, index))
    return encode_chunk(blob.sha256, index, data)


def _file_blob(path: Path, sha256: str) -> _Blob:
    return _Blob(sha256=sha256, size_bytes=path.stat().st_size, read=_Reader(path))


def _with_hashes(blob: _Blob, hashes: bytes) -> deque[_Blob]:
    """Return what is sent so that the hub learns the digests: a long list is a blob of its own."""
    if len(hashes) <= INLINE_CHUNKS * HASH_BYTES:
        return deque([msgspec.structs.replace(blob, hashes=hashes)])
    name = hashlib.sha256(hashes).hexdigest()
    listed = _Blob(
        sha256=name,
        size_bytes=len(hashes),
        read=lambda first, count: hashes[first : first + count],
    )
    return deque([listed, msgspec.structs.replace(blob, hashes_sha256=name)])


def chunk_packet_bytes(topic: str, data_bytes: int, qos: int = 1) -> int:
    """Return what a chunk costs: its MQTT packet on that topic."""
    return publish_bytes(topic, HEADER_BYTES + data_bytes, qos)
