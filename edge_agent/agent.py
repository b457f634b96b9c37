"""The supervisor: lean (no torch, no numpy), connects, takes offers, reports.

One thread owns all state. The link and the worker put what happens on one queue; timers are
looked at between events. So nothing here needs a lock, and whatever the worker does, up to
being killed for memory, arrives as one more event.
"""

import logging
import os
import queue
import secrets
import time
from pathlib import Path

from edge_agent.asking import Asking
from edge_agent.calibrating import Calibrating
from edge_agent.collect import Collector
from edge_agent.enrolment.renewing import Renewing
from edge_agent.errors import RefusedError
from edge_agent.failures import Failures
from edge_agent.gather import Adapters
from edge_agent.greeting import Greeting
from edge_agent.hearing import Hearing
from edge_agent.heartbeat import Heartbeat
from edge_agent.jobs import KnownJobs
from edge_agent.limits.enforcement import Enforcement
from edge_agent.local_serving import LocalServing
from edge_agent.metering import Metering
from edge_agent.peaks import Peaks
from edge_agent.probe.memory import MemoryLimit, memory_limit
from edge_agent.probe.process import peak_bytes, resident_bytes
from edge_agent.resting import Resting
from edge_agent.runtimes import chosen_runtime, present_runtimes
from edge_agent.setbacks import Setbacks
from edge_agent.slices import SliceChoice
from edge_agent.task_run import Settings
from edge_agent.tasks import Tasks
from edge_agent.telling import Teller
from edge_agent.training.data import count
from edge_agent.upload import chunk_packet_bytes
from edge_agent.worker_events import WorkerEvents
from edge_agent.worker_host import WorkerHost
from edge_agent.worker_process import WorkerDied, WorkerEvent
from wire.blobs import BlobStore
from wire.errors import MalformedError, WireError
from wire.inbox import Inbox
from wire.link import Connected, Disconnected, Link, Received, Will, bounded
from wire.messages import (
    BlobGet,
    Cancel,
    Credit,
    DeviceState,
    HubState,
    Message,
    Offer,
    Ranges,
    Refused,
    Reply,
    Report,
    RoundAnnounce,
    Welcome,
    encode,
    parse,
)
from wire.quiet_log import QuietLog
from wire.topics import Topics, check_name
from wire.transfer import check_sha256

log = logging.getLogger(__name__)

TICK_S = 0.25


class Supervisor:
    """The agent of one device.

    Args:
        settings: what it was started with.

    Raises:
        MalformedError: the device's or fleet's name can't stand in a topic.
        UsageError: there is nothing to compute with.
    """

    def __init__(self, settings: Settings) -> None:
        check_name(settings.device, "device id")
        self.settings = settings
        self.session = secrets.token_hex(6)
        self.topics = Topics(settings.fleet)
        self.quiet = QuietLog(log)
        self.runtime = chosen_runtime()
        self.folder = Path(settings.state_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inbox = Inbox(1000)
        self.limit = memory_limit(settings.memory_bytes)
        self.data = count(settings.data, settings.cleaning)
        self.blobs = BlobStore(self.folder / "blobs")
        self.asking = Asking(self._send)
        self.metering = Metering(self)
        pull = self._may_pull if self.metering.pulls else None
        self.collector = Collector(self.blobs, self._ask_blob, pull)
        hard_bytes = _hard_bytes(settings.memory_bytes, self.limit)
        self.worker = WorkerHost(
            settings,
            self.folder,
            self.inbox.put,
            limit_bytes=self.limit.limit_bytes,
            enforcement=Enforcement(settings.device, hard=hard_bytes is not None),
            hard_bytes=hard_bytes,
        )
        # The planner knows one process; each may take as much as any other.
        processes = settings.silo.processes if settings.silo is not None else 1
        each_bytes = self.limit.limit_bytes // processes
        failures = Failures(self.folder / "failures.json", each_bytes)
        self.jobs = KnownJobs(failures, self.folder)
        self.welcomed = False
        self.hub: HubState | None = None
        self._stopping = False
        will = DeviceState(state="lost", session=self.session, ts=time.time())
        self.link = Link(
            settings.broker,
            f"{settings.device}-{self.session}",
            bounded(self.inbox),
            will=Will(self.topics.device_state(settings.device), encode(will), 1, True),
        )
        self.slices = SliceChoice(
            self.jobs.serves, self._bytes_per_s, lambda: self.metering.left_bytes
        )
        self.adapters = Adapters(self.blobs, self.collector, self.jobs, self.slices)
        self.hearing = Hearing(self.link, self.topics)
        self.heartbeat = Heartbeat(self.folder)
        self.peaks = Peaks(self.folder / "peaks.json")
        self.teller = Teller(self)
        self.tasks = Tasks(self)
        self.setbacks = Setbacks(self)
        self.calibrating = Calibrating(self)
        self.resting = Resting(self)
        self.local_serving = LocalServing(self)
        self.worker_events = WorkerEvents(self)
        self.greeting = Greeting(self)
        state = self.folder if settings.enrolled else None
        self.renewing = Renewing(state, self.greeting.on_renewed, self.greeting.on_not_renewed)

    def stop(self) -> None:
        """Ask the loop to end; safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            RefusedError: the hub refuses this session for good.
        """
        device = self.settings.device
        for topic in (
            self.topics.hub_state(),
            self.topics.job_round(),
            self.topics.reply(device),
            self.topics.command(device),
            self.topics.repair_chunk(device),
        ):
            self.link.subscribe(topic)
        if not self.metering.pulls:
            self.hearing.hear(None)
        self.worker.begin()
        self.heartbeat.begin()
        self.link.start()
        try:
            while not self._stopping:
                try:
                    event = self.inbox.get(timeout=TICK_S)
                except queue.Empty:
                    event = None
                if event is not None:
                    self._on_event(event)
                self._tick(time.monotonic())
        finally:
            self.setbacks.save_before_end()
            self.worker.close()
            self.renewing.close()
            self.collector.flush()
            if self.welcomed:
                self.teller.state("disconnected", "stopped")
            self.link.stop()
            self.metering.close()
            self.heartbeat.end()

    # Events

    def _on_event(self, event: object) -> None:
        match event:
            case Connected():
                log.info("connected to the broker")
                self.greeting.greet()
            case Disconnected():
                self.welcomed = False
            case Received():
                try:
                    self._on_message(event)
                except RefusedError:
                    raise
                except WireError as error:
                    self.quiet.warn(event.topic, f"dropped a message on {event.topic}: {error}")
                except Exception as error:
                    what = f"a message on {event.topic} could not be handled"
                    self.quiet.warn(what, what, error)
            case WorkerEvent(worker=pid, event=what) if pid == self.worker.pid:
                self.worker_events.on_event(what)
            case WorkerDied(worker=pid, code=code) if pid == self.worker.pid:
                self.worker_events.on_death(code)
            case _:
                log.debug("passed over %s", type(event).__name__)

    def _on_message(self, received: Received) -> None:
        route = self.topics.parse(received.topic)
        if route is None:
            return
        if route.kind in ("slice_chunk", "repair_chunk"):
            done = self.collector.on_chunk(received.payload, time.monotonic())
            if done is not None:
                self._on_gathered()
            return
        message = parse(route, received.payload)
        match message:
            case HubState():
                self._on_hub(message)
            case RoundAnnounce():
                if message.job != route.job:  # the topic's was checked: it may name files
                    raise MalformedError(f"it speaks of job {message.job[:80]!r}.")
                self._on_announce(message)
            case Offer() | Cancel() | Report() if message.session == self.session:
                self._on_command(message)
            case Welcome() | Refused() if message.re == self.greeting.request:
                self.asking.answer(message)
            case Credit(re="") if message.session == self.session:
                self.tasks.uploads.on_unasked(message)
            case _ if isinstance(message, Reply) and message.session == self.session:
                self.asking.answer(message)
            case _:
                pass

    def _on_gathered(self) -> None:
        """A blob is here: others may be named in it, and a task may have waited for it."""
        self.local_serving.changed()
        self.tasks.refresh_adapters()
        self.tasks.advance()

    def _on_hub(self, state: HubState) -> None:
        known = self.hub
        self.hub = state
        if not state.online or (known is not None and known == state):
            return
        self.quiet.note("the hub", f"the hub is there ({state.epoch})")
        if known is not None and known.epoch != state.epoch and self.jobs.forget_not_made():
            self.replan()  # another hub may make what the one before could not
        if known is not None:  # else `Connected` has just greeted
            self.greeting.greet()

    def _on_command(self, command: Message) -> None:
        match command:
            case Report():
                self.greeting.greet()
            case Cancel():
                self.tasks.on_cancel(command)
            case Offer():
                self.tasks.on_offer(command)
            case _:
                pass

    def _on_announce(self, announce: RoundAnnounce) -> None:
        check_sha256(announce.base.digest)
        if announce.adapter is not None:
            check_sha256(announce.adapter.sha256)
        changed = self.jobs.learn(announce)
        self.calibrating.begin()
        if changed:
            self.replan()
        self.tasks.refresh_adapters()  # planned first: the broadcast is right behind
        self.local_serving.changed()

    @property
    def runtimes(self) -> list[str]:
        """What there is to compute with, the one in use first."""
        return [self.runtime, *(one for one in present_runtimes() if one != self.runtime)]

    # Plans

    def replan(self) -> None:
        """Plan every job anew, and say what came of it."""
        before = self.jobs.plans
        for job, plan in self.jobs.plan(self.calibrating.known).items():
            if before.get(job) != plan:
                log.info("job %s: role %s. %s", job, plan.role, plan.reason)
        if self.jobs.plans and all(plan.role == "none" for plan in self.jobs.plans.values()):
            self.worker.stop()  # nothing will be asked of it
        self.local_serving.changed()
        if self.welcomed:
            self.teller.info()

    # Timers

    def _tick(self, now: float) -> None:
        self.asking.tick(now)
        self.renewing.tick(now)
        if self.collector.tick(now):
            self._on_gathered()
        self.metering.idle(down=self.collector.idle)
        if not self.metering.pulls:
            self.hearing.hear(self.slices.heard(self.jobs.active))
        busy = self.tasks.current is not None
        self.worker.tick(now, busy=busy)
        self.resting.tick(now)
        self.local_serving.tick(now)
        self.setbacks.tick(now)
        self.teller.tick(now)
        self.tasks.tick(now)
        self.metering.tick(now)
        self.heartbeat.beat(now, self.teller.sign())

    # Saying

    def _send(self, message: Message) -> bool:
        topic = self.topics.request(self.settings.device, str(message.NAME))
        return self.link.publish(topic, encode(message), message.QOS)

    def _ask_blob(self, sha256: str, missing: Ranges) -> None:
        """Ask once; the collector itself asks again when nothing comes."""
        request = self.asking.new_id()
        self._send(BlobGet(id=request, session=self.session, sha256=sha256, missing=missing))

    def _bytes_per_s(self) -> float | None:
        """Return what comes in a second: what the link brought, within the user's limit."""
        rates = (self.collector.bytes_per_s, self.metering.down_bytes_per_s)
        return min((rate for rate in rates if rate is not None), default=None)

    def _may_pull(self, data_bytes: int, now: float) -> bool:
        """Return whether a chunk may be asked for now; if so, it is paid for."""
        if not self.welcomed or self.worker.fetching is not None:
            return False
        topic = self.topics.repair_chunk(self.settings.device)
        return self.metering.take_down(chunk_packet_bytes(topic, data_bytes), now)

    # Memory, of supervisor and worker together, in bytes

    def peak_bytes(self) -> int:
        """Greatest resident memory so far."""
        return (peak_bytes(os.getpid()) or 0) + self.worker.peak_bytes

    def task_peak_bytes(self) -> int:
        """Greatest resident memory since the worker last got a task."""
        return (peak_bytes(os.getpid()) or 0) + self.worker.task_peak_bytes

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return (resident_bytes(os.getpid()) or 0) + (self.worker.resident_bytes or 0)


def _hard_bytes(asked_bytes: int | None, limit: MemoryLimit) -> int | None:
    """Return the limit that somebody set, the user or a container; None where nobody did."""
    if limit.reason.startswith("cgroup"):
        return limit.limit_bytes
    return asked_bytes
