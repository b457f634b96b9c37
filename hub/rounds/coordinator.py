"""Drives the rounds: messages in, what the jobs' states want out. One thread owns everything.

The HTTP layer and the combining thread hand their work over as `Call`s on the same queue, so
nothing here needs a lock.
"""

import logging
import queue
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from hub.fleet.door import Door
from hub.fleet.records import remembered, to_remember
from hub.fleet.sessions import MAX_DEVICES, Device, Sessions
from hub.rounds import events
from hub.rounds.desk import Call, Desk
from hub.rounds.doorkeeper import Doorkeeper
from hub.rounds.job_run import JobRun
from hub.rounds.queries import workers
from hub.rounds.reception import Reception
from hub.rounds.requests import Requests, allowed_bytes
from hub.store.database import Store
from hub.store.errors import StoreError
from wire.blobs import BlobStore
from wire.errors import MalformedError
from wire.inbox import Inbox
from wire.link import BrokerSettings, Connected, Disconnected, Link, Received, Will, bounded
from wire.messages import (
    BlobFin,
    BlobGet,
    BlobInit,
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    Evaluated,
    Hello,
    HubState,
    Message,
    Result,
    Take,
    Telemetry,
    encode,
    parse,
)
from wire.quiet_log import QuietLog
from wire.topics import BROKER_LOG, Topics
from wire.transfer import Chunk

log = logging.getLogger(__name__)

T = TypeVar("T")
TICK_S = 0.25
ALIVE_S = 2.0
SWEEP_S = 60.0
BLOB_AGE_S = 3600.0
#: A device whose data cap is used up sends the rest of its update on the next day.
PARTIAL_AGE_S = 2 * 86_400.0
CALL_TIMEOUT_S = 60.0


class Coordinator:
    """The hub's one thread.

    Args:
        broker: how to reach it.
        fleet: its name.
        http: where devices fetch bases.
        store: jobs, events, devices.
        blobs: updates and adapters.
        folder: for adapters, and a file whose time of change says until when the hub lived.
        max_devices: that are known at a time.
        door: who may take part; None: everybody.
    """

    def __init__(
        self,
        *,
        broker: BrokerSettings,
        fleet: str,
        http: str,
        store: Store,
        blobs: BlobStore,
        folder: Path,
        max_devices: int = MAX_DEVICES,
        door: Door | None = None,
    ) -> None:
        self.door = door or Door.unguarded()
        self.inbox = Inbox(1000)
        self.epoch = secrets.token_hex(4)
        self.topics = Topics(fleet)
        self.quiet = QuietLog(log)
        self.jobs: dict[str, JobRun] = {}
        self.sessions = Sessions(
            [remembered(row) for row in store.devices()], max_devices, self._workers
        )
        self._said_crowded = False
        self._alive = folder / "alive"
        self._stopping = False
        self._offline_since: float | None = None
        self._next = {"alive": 0.0, "sweep": 0.0}
        will = encode(HubState(online=False, ts=0, epoch=self.epoch))
        self.link = Link(
            broker,
            # Not the epoch, which every device reads: who knows an id can throw its owner out.
            f"hub-{fleet}-{secrets.token_hex(8)}",
            bounded(self.inbox),
            will=Will(self.topics.hub_state(), will, 1, True),
        )
        self.desk = Desk(
            link=self.link,
            topics=self.topics,
            sessions=self.sessions,
            store=store,
            blobs=blobs,
            inbox=self.inbox,
            http=http,
            folder=folder,
            needed_blobs=self._needed_blobs,
        )
        self.reception = Reception(
            link=self.link,
            topics=self.topics,
            epoch=self.epoch,
            sessions=self.sessions,
            store=blobs,
            broadcast=self.desk.broadcast,
            allowed_bytes=partial(allowed_bytes, self.jobs),
            arrived=self._on_arrived,
            gone=self._on_gone,
            quiet=self.quiet,
        )
        self.doorkeeper = Doorkeeper(self.door, self.sessions, self.reception, self._on_gone)
        self.requests = Requests(self.jobs, self.sessions, self.reception)

    # For other threads

    def call(self, work: Callable[[], T]) -> T:
        """Do something on the coordinator's thread and return its result.

        Raises:
            TimeoutError: the thread is busy or has ended.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # handed to the caller, whoever that is
                future.set_exception(error)

        self.inbox.put(Call(run))
        return future.result(CALL_TIMEOUT_S)

    def stop(self) -> None:
        """Ask the loop to end; safe from a signal handler."""
        self._stopping = True

    # The loop

    def add(self, job: JobRun) -> None:
        """Take in a job, new or replayed."""
        self.jobs[job.name] = job

    def run(self) -> None:
        """Work until `stop`."""
        for topic in (
            self.topics.device_state(),
            self.topics.device_info(),
            self.topics.event(),
            self.topics.request(),
        ):
            self.link.subscribe(topic)
        if self.door.guarded:
            self.link.subscribe(BROKER_LOG, 0)
        self.link.subscribe(self.topics.telemetry(), 0)
        self.link.subscribe(self.topics.upload_chunk(), Chunk.QOS["upload_chunk"])
        self._note_absence()
        self.link.start()
        next_tick = 0.0
        try:
            while not self._stopping:
                # Between two chunks of a broadcast we only look whether something came in.
                wait_s = TICK_S if self.desk.broadcast.idle else 0.005
                try:
                    event = self.inbox.get(timeout=wait_s)
                except queue.Empty:
                    event = None
                if event is not None:
                    self._on_event(event)
                now = self.desk.now()
                if now >= next_tick or event is None:
                    next_tick = now + TICK_S
                    self._tick(now)
                self.desk.broadcast.pump()
        finally:
            self._say_online(False)
            self.link.stop()
            for job in self.jobs.values():
                job.stop_work()
            self.desk.close()

    def _on_event(self, event: object) -> None:
        match event:
            case Call():
                try:
                    event.work()
                except StoreError:
                    raise  # what can't be logged must not take effect
                except Exception as error:
                    self.quiet.warn("call", "something that was asked for failed", error)
                self._drive()
            case Connected():
                self._on_connected()
            case Disconnected():
                self._offline_since = self._offline_since or self.desk.now()
            case Received():
                try:
                    self._on_message(event)
                except MalformedError as error:
                    self.quiet.warn(event.topic, f"dropped a message on {event.topic}: {error}")
                except StoreError:
                    raise  # what can't be logged must not take effect
                except Exception as error:
                    what = f"a message on {event.topic} could not be handled"
                    self.quiet.warn(what, what, error)
            case _:
                log.debug("passed over %s", type(event).__name__)

    def _on_connected(self) -> None:
        log.info("connected to the broker")
        now = self.desk.now()
        if self._offline_since is not None:
            self._log_absence(now - self._offline_since)
            self._offline_since = None
        self._say_online(True)
        for job in self.jobs.values():
            job.offering.forget()
        self._drive()

    def _say_online(self, online: bool) -> None:
        state = HubState(online=online, ts=self.desk.now(), epoch=self.epoch, http=self.desk.http)
        self.link.publish(self.topics.hub_state(), encode(state), state.QOS, retain=True)

    def _note_absence(self) -> None:
        """Deadlines that passed while no hub ran don't count."""
        if self._alive.exists():
            self._log_absence(self.desk.now() - self._alive.stat().st_mtime)

    def _log_absence(self, away_s: float) -> None:
        for job in self.jobs.values():
            if not job.over and away_s > 0:
                job.record(events.HubBack(away_s=away_s))

    # Messages

    def _on_message(self, received: Received) -> None:
        now = self.desk.now()
        route = self.topics.parse(received.topic)
        if route is None or route.device is None:
            if received.topic == BROKER_LOG:
                self.door.on_broker_log(received.payload, now)
            return
        device = route.device
        if self.doorkeeper.keeps_out(device, route, received, now):
            return
        if route.kind == "upload_chunk":
            self.reception.on_chunk(device, received.payload)
            return
        message = parse(route, received.payload)
        match message:
            case DeviceState():
                self.reception.on_state(device, message, now)
            case Hello():
                self.reception.on_hello(device, message, now)
            case (
                DeviceInfo() | Telemetry() | DeviceEvent() | Take() | Evaluated() | Result()
                | BlobInit() | BlobFin() | BlobGet()
            ):  # fmt: skip
                if self.sessions.owns(device, message.session, now):
                    self._on_session_message(device, message)
                elif not received.retained:
                    self._on_stranger(device, message.session)
            case _:
                pass

    def _on_stranger(self, device: str, session: str) -> None:
        """A session that isn't the device's: let it greet, unless another one has the place."""
        known = self.sessions.devices.get(device)
        if known is None or known.session is None:
            self.reception.ask_report(device, session)

    def _on_session_message(self, device: str, message: Message) -> None:
        match message:
            case DeviceInfo():
                before = self.sessions.devices[device].info
                self.sessions.devices[device].info = message
                for name, plan in message.plans.items():
                    if name in self.jobs and (before is None or before.plans.get(name) != plan):
                        self.jobs[name].offering.forget_device(device)  # it waited for its plan
                self.desk.store.save_device(to_remember(self.sessions.devices[device]))
                self._drive()
            case Telemetry():
                self.sessions.devices[device].hear(message)
            case DeviceEvent():
                what = f"device {device}: {message.type}: {message.detail}"
                self.quiet.warn(f"{device} {message.type}", what)
            case Take() | Evaluated() | Result() | BlobInit() | BlobFin() | BlobGet():
                if self.requests.on_request(device, message):
                    self._drive()
            case _:
                pass

    # Devices

    def _on_arrived(self, device: str, _now: float) -> None:
        self._forget(self.sessions.take_forgotten())
        self.desk.store.save_device(to_remember(self.sessions.devices[device]))
        for job in self.jobs.values():
            if not job.over:
                job.on_device_back(device)
        self._drive()

    def _workers(self) -> set[str]:
        return set[str]().union(*(workers(job.state) for job in self.jobs.values()))

    def _forget(self, devices: list[str]) -> None:
        if not devices:
            return
        self.desk.store.forget_devices(devices)
        if not self._said_crowded:
            self._said_crowded = True
            log.warning(
                "more devices greet than max_devices, %d, allows; those that never did work are "
                "forgotten, the first one is %s. Raise max_devices, or see who connects",
                self.sessions.most,
                devices[0],
            )

    def _on_gone(self, device: str, _now: float) -> None:
        self.desk.store.save_device(to_remember(self.sessions.devices[device]))
        for job in self.jobs.values():
            if not job.over:
                job.on_device_lost(device)
        self._drive()

    # Timers

    def _drive(self) -> None:
        for job in list(self.jobs.values()):
            try:
                job.drive()
            except StoreError:
                raise  # what can't be logged must not take effect
            except Exception as error:  # one job's trouble is not another's
                self.quiet.warn(job.name, f"job {job.name}: {type(error).__name__}: {error}")
                log.debug("job %s", job.name, exc_info=error)

    def _tick(self, now: float) -> None:
        self.reception.tick(now)
        self.door.tick(now)
        if self._offline_since is None:
            self._drive()
        if now >= self._next["alive"]:
            self._next["alive"] = now + ALIVE_S
            self._alive.touch()
        if now >= self._next["sweep"]:
            self._next["sweep"] = now + SWEEP_S
            self._sweep()

    def _sweep(self) -> None:
        """Delete old blobs that no job can need any more.

        A young one may be an update that was just uploaded and is in nobody's record yet.
        """
        live = self._needed_blobs()
        for sha256 in self.desk.blobs.all():
            path = self.desk.blobs.path(sha256)
            if sha256 in live or path is None:
                continue
            if self.desk.now() - path.stat().st_mtime > BLOB_AGE_S:
                self.desk.blobs.delete(sha256)
        for sha256 in self.desk.blobs.partials(PARTIAL_AGE_S):
            self.desk.blobs.delete(sha256)

    def _needed_blobs(self) -> set[str]:
        return set[str]().union(*(job.live_blobs() for job in self.jobs.values()))

    def known_devices(self) -> list[Device]:
        """Return every device that was ever seen, by id."""
        return [self.sessions.devices[name] for name in sorted(self.sessions.devices)]
