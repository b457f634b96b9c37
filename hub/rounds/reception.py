"""Answers what devices ask that concerns no round: who they are, chunks up, chunks down."""

import logging
from collections.abc import Callable

from hub.fleet.sessions import RESTS, Sessions
from hub.rounds.broadcast import Broadcast
from hub.rounds.uploads import UnknownUploadError, Uploads
from wire.blobs import BlobStore
from wire.errors import MalformedError
from wire.link import Link
from wire.messages import (
    Accepted,
    BlobFin,
    BlobGet,
    BlobInfo,
    BlobInit,
    Credit,
    DeviceState,
    Hello,
    Refused,
    Reply,
    Report,
    Welcome,
    encode,
)
from wire.partial import WrongChunksError
from wire.quiet_log import QuietLog
from wire.topics import Topics
from wire.transfer import WINDOW, chunk_count, indices, ranges
from wire.version import WIRE_VERSION

log = logging.getLogger(__name__)


class Reception:
    """The hub's front desk.

    Args:
        allowed_bytes: how large an upload for a task may be; None: nobody waits for it.
        arrived: called when a device's session becomes the accepted one.
        gone: called when a device's accepted session ended.
        quiet: for warnings that anybody can cause.
    """

    def __init__(
        self,
        *,
        link: Link,
        topics: Topics,
        epoch: str,
        sessions: Sessions,
        store: BlobStore,
        broadcast: Broadcast,
        allowed_bytes: Callable[[str, str], int | None],
        arrived: Callable[[str, float], None],
        gone: Callable[[str, float], None],
        quiet: QuietLog,
    ) -> None:
        self._link = link
        self._topics = topics
        self._epoch = epoch
        self._sessions = sessions
        self._store = store
        self._broadcast = broadcast
        self._uploads = Uploads(store)
        self._allowed_bytes = allowed_bytes
        self._arrived = arrived
        self._gone = gone
        self._quiet = quiet
        #: Asked when two live sessions have one id; returns what both are told if neither may stay.
        self.on_clone: Callable[[str, float], str | None] = lambda _device, _now: None

    def reply(self, device: str, reply: Reply) -> None:
        """Answer a device; if the answer is lost, it asks again."""
        self._link.publish(self._topics.reply(device), encode(reply), reply.QOS)

    def ask_report(self, device: str, session: str) -> None:
        """Let a session greet (again)."""
        command = Report(session=session)
        topic = self._topics.command(device, str(Report.NAME))
        self._link.publish(topic, encode(command), Report.QOS)

    # Greetings

    def on_hello(self, device: str, hello: Hello, now: float) -> None:
        """Decide who a device id belongs to."""
        if hello.wire_version != WIRE_VERSION:
            reason = (
                f"the agent speaks wire version {hello.wire_version}, this hub {WIRE_VERSION}; "
                "update the older one."
            )
            self._refuse(device, hello.session, hello.id, reason)
            return
        match self._sessions.hello(device, hello.session, hello.id, now):
            case "welcome":
                challenger = self._sessions.refused(device)
                if challenger is not None and (words := self.on_clone(device, now)) is not None:
                    self._refuse(device, hello.session, hello.id, words)
                    self._refuse(device, challenger.challenger, challenger.hello, words)
                    return
                self._welcome(device, hello.session, hello.id, now)
                if challenger is not None:
                    self._refuse_twin(device, challenger.challenger, challenger.hello)
            case "probe":
                first = self._sessions.devices[device].session
                self._quiet.note(
                    f"{device} twice", f"device {device} greets twice; asking the first session"
                )
                if first is not None:
                    self.ask_report(device, first)
            case "refuse":
                self._refuse_twin(device, hello.session, hello.id)
            case "full":
                self._refuse_for_now(device, hello)
            case "wait":
                pass

    def refuse(self, device: str, hello: Hello, reason: str, *, final: bool) -> None:
        """Refuse a greeting; ``final``: the device can't mend that by itself."""
        refused = Refused(re=hello.id, session=hello.session, reason=reason, final=final)
        self.reply(device, refused)

    def on_state(self, device: str, state: DeviceState, now: float) -> None:
        """Take note of a device's state, the will of a vanished one included."""
        known = self._sessions.devices.get(device)
        there = state.state == "ready" or state.state in RESTS
        if there and (known is None or known.session is None):
            # Retained from before this hub began: the device will greet when it is still there.
            self.ask_report(device, state.session)
        if self._sessions.on_state(device, state, now) == "refuse":
            self._quiet.note(f"{device} gone", f"device {device} is gone ({state.state})")
            self._gone(device, now)

    def tick(self, now: float) -> None:
        """Give up sessions that are silent, and the place of those that don't answer."""
        for device in self._sessions.silent(now):
            log.info("device %s was not heard for long; it counts as lost", device)
            self._gone(device, now)
        for device, probe in self._sessions.expired(now):
            log.info("device %s: its first session is gone; the later one takes over", device)
            self._gone(device, now)
            self._welcome(device, probe.challenger, probe.hello, now)

    def _welcome(self, device: str, session: str, request: str, now: float) -> None:
        self.reply(device, Welcome(re=request, session=session, epoch=self._epoch, hub_ts=now))
        self._arrived(device, now)

    def _refuse_twin(self, device: str, session: str, request: str) -> None:
        self._quiet.warn(
            f"{device} twin", f"device {device}: a second session with this id was refused"
        )
        reason = (
            f"another live session has the device id {device!r}. Give this agent another --id, "
            "or stop the other one."
        )
        self._refuse(device, session, request, reason)
        first = self._sessions.devices[device].session
        if first is not None:
            # The refused one's will may have overwritten the retained state: let it be renewed.
            self.ask_report(device, first)

    def _refuse_for_now(self, device: str, hello: Hello) -> None:
        reason = f"the hub knows {len(self._sessions.devices)} devices, and each of them did work; "
        reason += "raise max_devices in the hub's file"
        self._quiet.warn("full", f"device {device} was refused: {reason}")
        self.refuse(device, hello, reason, final=False)

    def _refuse(self, device: str, session: str, request: str, reason: str) -> None:
        self.reply(device, Refused(re=request, session=session, reason=reason))

    # Blobs

    def on_blob_init(self, device: str, message: BlobInit) -> None:
        """Begin or resume an upload."""
        allowed = self._allowed_bytes(device, message.task)
        if allowed is None:
            reason = f"nobody waits for an update of task {message.task}."
        elif message.size_bytes > allowed:
            reason = f"the update has {message.size_bytes} bytes; the offer allows {allowed}."
        else:
            self._begin(device, message)
            return
        self._refuse(device, message.session, message.id, reason)

    def _begin(self, device: str, message: BlobInit) -> None:
        try:
            missing = self._uploads.begin(device, message)
        except MalformedError as error:
            self._refuse_upload(device, message, error)
            return
        if missing is None:
            self.reply(device, Accepted(re=message.id, session=message.session))
        elif not missing or not self._uploads.wait_for_chunk(device, message):
            self._credit(device, message, missing)

    def on_blob_fin(self, device: str, message: BlobFin | BlobInit) -> None:
        """Say what is missing, or that the blob is complete and on disk."""
        try:
            missing = self._uploads.finish(device, message.sha256)
        except WrongChunksError as error:
            self._quiet.warn(f"{device} wrong", f"{device}: {error}")
            self._credit(device, message, [], wrong=True)
            return
        except MalformedError as error:
            self._refuse_upload(device, message, error)
            return
        if missing is None:
            self.reply(device, Accepted(re=message.id, session=message.session))
        else:
            self._credit(device, message, missing)

    def on_chunk(self, device: str, payload: bytes) -> None:
        """Take a chunk of an upload."""
        try:
            due = self._uploads.on_chunk(device, payload)
        except MalformedError as error:
            self._quiet.warn(f"{device} chunk", f"dropped a chunk of {device}: {error}")
            return
        if due is None:
            return
        if due.missing is None:
            self.on_blob_fin(device, due.announced)
        else:
            self._credit(device, due.announced, due.missing, re="")

    def on_blob_get(self, device: str, message: BlobGet) -> None:
        """Send a window of a blob's chunks to one device."""
        try:
            path = self._store.path(message.sha256)
            if path is None:
                raise MalformedError(f"blob {message.sha256[:12]} is not here (any more).")
            size = path.stat().st_size
            asked = message.missing
            if asked is None:
                asked = ranges(range(min(WINDOW, chunk_count(size))))
            wanted = indices(asked, chunk_count(size), WINDOW)
        except MalformedError as error:
            self._refuse(device, message.session, message.id, str(error))
            return
        self.reply(
            device,
            BlobInfo(
                re=message.id, session=message.session, sha256=message.sha256, size_bytes=size
            ),
        )
        topic = self._topics.repair_chunk(device)
        self._broadcast.repair(topic, message.sha256, path, wanted)

    def _credit(
        self,
        device: str,
        message: BlobInit | BlobFin,
        missing: list[tuple[int, int]],
        *,
        re: str | None = None,
        wrong: bool = False,
    ) -> None:
        self.reply(
            device,
            Credit(
                re=message.id if re is None else re,
                session=message.session,
                sha256=message.sha256,
                missing=missing,
                window=self._uploads.window,
                wrong=wrong,
                unasked=self._uploads.tells(device, message.sha256),
            ),
        )

    def _refuse_upload(
        self, device: str, message: BlobInit | BlobFin, error: MalformedError
    ) -> None:
        self.reply(
            device,
            Refused(
                re=message.id,
                session=message.session,
                reason=str(error),
                final=not isinstance(error, UnknownUploadError),
            ),
        )
