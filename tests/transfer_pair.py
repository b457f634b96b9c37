"""A hub's desk and a device's transfers, without rounds and training: for tests of the wire alone.

Both are the real parts over a real broker; only what would ask for a transfer is left out.
"""

import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge_agent.asking import Asking
from edge_agent.collect import Collector
from edge_agent.metering import Limits, Metering
from edge_agent.upload import Uploads, chunk_packet_bytes
from hub.fleet.sessions import Sessions
from hub.rounds.broadcast import Broadcast
from hub.rounds.reception import Reception
from wire.blobs import BlobStore
from wire.inbox import Inbox
from wire.link import Connected, Link, Received, bounded
from wire.messages import BlobFin, BlobGet, BlobInit, Credit, Message, Reply, encode, parse
from wire.quiet_log import QuietLog
from wire.topics import Topics

FLEET = "pair"


class _Loop(ABC):
    """One thread that owns everything, as in hub and agent."""

    def __init__(self) -> None:
        self.inbox = Inbox(1000)
        self.topics = Topics(FLEET)
        self.received: list[str] = []  # kinds of what arrived: route, or the request's name
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.link: Link

    def start(self) -> None:
        self.link.start()
        self._thread.start()

    def call(self, work: Callable[[], Any]) -> None:
        """Do something on the loop's thread."""
        self.inbox.put(work)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(10)
        self.link.stop()

    def _run(self) -> None:
        while not self._stopping:
            try:
                event = self.inbox.get(timeout=0.02)
            except queue.Empty:
                event = None
            if callable(event):
                event()
            elif event is not None:
                self.on_event(event)
            self.tick()

    @abstractmethod
    def on_event(self, event: Any) -> None:
        """Take what the link says."""

    @abstractmethod
    def tick(self) -> None:
        """Do what is due."""


class HubSide(_Loop):
    """Takes uploads of any size and answers what is asked for.

    Args:
        url: of the broker.
        folder: for its blobs.
    """

    def __init__(self, url: str, folder: Path, *, allowed_bytes: int = 10**9) -> None:
        super().__init__()
        self.blobs = BlobStore(folder)
        self.link = Link(url, f"hub-{time.monotonic_ns()}", bounded(self.inbox))
        self.broadcast = Broadcast(self.link)
        self.reception = Reception(
            link=self.link,
            topics=self.topics,
            epoch="e",
            sessions=Sessions(),
            store=self.blobs,
            broadcast=self.broadcast,
            allowed_bytes=lambda _device, _task: allowed_bytes,
            arrived=lambda _device, _now: None,
            gone=lambda _device, _now: None,
            quiet=QuietLog(logging.getLogger("hub-side")),
        )
        self.link.subscribe(self.topics.request())
        self.link.subscribe(self.topics.upload_chunk())
        self.drop: Callable[[bytes], bool] = lambda _payload: False

    def on_event(self, event: Any) -> None:
        if not isinstance(event, Received):
            return
        route = self.topics.parse(event.topic)
        if route is None or route.device is None:
            return
        if route.kind == "upload_chunk":
            self.received.append("chunk")
            if not self.drop(event.payload):
                self.reception.on_chunk(route.device, event.payload)
            return
        message = parse(route, event.payload)
        self.received.append(str(route.name))
        match message:
            case BlobInit():
                self.reception.on_blob_init(route.device, message)
            case BlobFin():
                self.reception.on_blob_fin(route.device, message)
            case BlobGet():
                self.reception.on_blob_get(route.device, message)
            case _:
                pass

    def tick(self) -> None:
        self.broadcast.pump()


class DeviceSide(_Loop):
    """Uploads and gathers blobs, within its limits.

    Args:
        url: of the broker.
        folder: for its blobs and its counts.
        limits: of the device's user.
        clock: tells the days apart.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        device: str = "a",
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.session = "s"
        self.settings = SimpleNamespace(device=device, limits=limits or Limits())
        self.blobs = BlobStore(folder / "blobs")
        self.link = Link(url, f"{device}-{time.monotonic_ns()}", bounded(self.inbox))
        self.welcomed = True
        self.told: list[tuple[Any, ...]] = []
        self.teller = SimpleNamespace(
            state=lambda *said: self.told.append(("state", *said)),
            event=lambda *said: self.told.append(("event", *said)),
        )
        self.resting = SimpleNamespace(state=("ready", None))
        self.tasks = SimpleNamespace(advance=lambda: None)
        self.asking = Asking(self._send)
        self.metering = Metering(self, clock)  # type: ignore[arg-type]
        pull = self._may_pull if self.metering.pulls else None
        self.collector = Collector(self.blobs, self._ask_blob, pull)
        self.uploads = Uploads(self)  # type: ignore[arg-type]
        self.gathered: list[str] = []
        self.link.subscribe(self.topics.reply(device))
        self.link.subscribe(self.topics.repair_chunk(device))
        if not self.metering.pulls:
            self.link.subscribe(self.topics.slice_chunk())

    def upload(self, data: bytes) -> SimpleNamespace:
        """Begin to send a blob; the returned task tells how far it is."""
        task = SimpleNamespace(
            update=self.blobs.put(data),
            update_bytes=len(data),
            offer=SimpleNamespace(task="t.1.a"),
            uploading=False,
            uploaded=False,
            upload_started_at=0.0,
            upload_s=0.0,
            failure=None,
        )
        self.call(lambda: self.uploads.begin(task))  # type: ignore[arg-type]
        return task

    def on_event(self, event: Any) -> None:
        if isinstance(event, Connected):
            self.asking.repeat_all(time.monotonic())
            self.uploads.ask_again(time.monotonic())
        if not isinstance(event, Received):
            return
        route = self.topics.parse(event.topic)
        if route is None:
            return
        self.received.append(route.kind)
        if route.kind in ("slice_chunk", "repair_chunk"):
            done = self.collector.on_chunk(event.payload, time.monotonic())
            if done is not None:
                self.gathered.append(done)
            return
        message = parse(route, event.payload)
        if isinstance(message, Credit) and not message.re:
            self.uploads.on_unasked(message)
        elif isinstance(message, Reply):
            self.asking.answer(message)

    def tick(self) -> None:
        now = time.monotonic()
        self.asking.tick(now)
        self.gathered += self.collector.tick(now)
        self.metering.idle(down=self.collector.idle)
        self.uploads.tick(now)
        self.metering.tick(now)

    def _send(self, message: Message) -> bool:
        topic = self.topics.request(self.settings.device, str(message.NAME))
        return self.link.publish(topic, encode(message), message.QOS)

    def _ask_blob(self, sha256: str, missing: list[tuple[int, int]]) -> None:
        request = self.asking.new_id()
        self._send(BlobGet(id=request, session=self.session, sha256=sha256, missing=missing))

    def _may_pull(self, data_bytes: int, now: float) -> bool:
        topic = self.topics.repair_chunk(self.settings.device)
        return self.metering.take_down(chunk_packet_bytes(topic, data_bytes), now)


def await_true(what: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: it didn't in time.
    """
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError("it didn't happen in time")
        time.sleep(0.005)
