"""The supervisor: lean (no torch, no numpy), connects, takes offers, reports.

One thread owns all state. The link and the worker put what happens on one queue; timers are
looked at between events. So nothing here needs a lock, and whatever the worker does, up to
being killed for memory, arrives as one more event.
"""

import logging
import os
import queue
import secrets
import shutil
import time
from pathlib import Path

from edge_agent.asking import Asking
from edge_agent.collect import Collector
from edge_agent.errors import RefusedError
from edge_agent.jobs import KnownJobs
from edge_agent.probe.memory import memory_limit
from edge_agent.probe.process import peak_bytes, resident_bytes
from edge_agent.protocol import Failed, Fetch, Fetched, Finished, Losses, Progress, Ready, Work
from edge_agent.task_run import Settings, TaskRun
from edge_agent.telling import Teller
from edge_agent.training.data import count
from edge_agent.upload import Uploads
from edge_agent.worker_host import WorkerHost
from edge_agent.worker_process import WorkerDied, WorkerEvent
from wire.blobs import BlobStore
from wire.errors import MalformedError, WireError
from wire.link import Connected, Disconnected, Link, Received, Will, bounded
from wire.manifest import AdapterManifest
from wire.messages import (
    BlobGet,
    Cancel,
    Credit,
    DeviceState,
    Evaluated,
    Hello,
    HubState,
    Message,
    Offer,
    Ranges,
    Refused,
    Reply,
    Report,
    Result,
    RoundAnnounce,
    Take,
    TaskProgress,
    Welcome,
    encode,
    parse,
)
from wire.topics import Topics, check_name
from wire.version import LORIKEET_VERSION, WIRE_VERSION

log = logging.getLogger(__name__)

TICK_S = 0.25
STATE_BLOBS = "blobs"


class Supervisor:
    """The agent of one device.

    Args:
        settings: what it was started with.

    Raises:
        MalformedError: the device's or fleet's name can't stand in a topic.
    """

    def __init__(self, settings: Settings) -> None:
        check_name(settings.device, "device id")
        self.settings = settings
        self.session = secrets.token_hex(6)
        self.topics = Topics(settings.fleet)
        self.folder = Path(settings.state_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inbox: queue.Queue[object] = queue.Queue(maxsize=1000)
        self.limit = memory_limit(settings.memory_bytes)
        self.data = count([Path(path) for path in settings.data])
        self.blobs = BlobStore(self.folder / STATE_BLOBS)
        self.asking = Asking(self._send)
        self.collector = Collector(self.blobs, self._ask_blob)
        self.uploads = Uploads(self)
        self.worker = WorkerHost(settings, self.folder, self.inbox.put)
        self.jobs = KnownJobs(self.limit.limit_bytes)
        self.task: TaskRun | None = None
        self.welcomed = False
        self.hub: HubState | None = None
        self._greeting: str | None = None
        self._stopping = False
        will = DeviceState(state="lost", session=self.session, ts=time.time())
        self.link = Link(
            settings.broker,
            f"{settings.device}-{self.session}",
            bounded(self.inbox),
            will=Will(self.topics.device_state(settings.device), encode(will), 1, True),
        )
        self.teller = Teller(self)

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
            self.topics.slice_chunk(),
            self.topics.repair_chunk(device),
        ):
            self.link.subscribe(topic)
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
            self.worker.stop()
            self.collector.flush()
            if self.welcomed:
                self.teller.state("disconnected", "stopped")
            self.link.stop()

    # Events

    def _on_event(self, event: object) -> None:
        match event:
            case Connected():
                log.info("connected to the broker")
                self._greet()
            case Disconnected():
                self.welcomed = False
            case Received():
                self._on_message(event)
            case WorkerEvent(worker=pid, event=what) if pid == self.worker.pid:
                self._on_worker(what)
            case WorkerDied(worker=pid, code=code) if pid == self.worker.pid:
                self._on_worker_death(code)
            case _:
                log.debug("passed over %s", type(event).__name__)

    def _on_message(self, received: Received) -> None:
        route = self.topics.parse(received.topic)
        if route is None:
            return
        if route.kind in ("slice_chunk", "repair_chunk"):
            done = self.collector.on_chunk(received.payload, time.monotonic())
            if done is not None:
                self._want_adapter_parts()
                self.advance()
            return
        try:
            message = parse(route, received.payload)
        except MalformedError as error:
            log.warning("dropped a message on %s: %s", received.topic, error)
            return
        match message:
            case HubState():
                self._on_hub(message)
            case RoundAnnounce():
                self._on_announce(message)
            case Offer() | Cancel() | Report() if message.session == self.session:
                self._on_command(message)
            case Welcome() | Refused() if message.re == self._greeting:
                self.asking.answer(message)
            case _ if isinstance(message, Reply) and message.session == self.session:
                self.asking.answer(message)
            case _:
                pass

    def _on_hub(self, state: HubState) -> None:
        known = self.hub
        self.hub = state
        if not state.online or (known is not None and known == state):
            return
        log.info("the hub is there (%s)", state.epoch)
        if known is not None:  # else `Connected` has just greeted
            self._greet()

    def _on_command(self, command: Message) -> None:
        match command:
            case Report():
                self._greet()
            case Cancel():
                if self.task is not None and self.task.offer.task == command.task:
                    log.info("task %s is cancelled: %s", command.task, command.reason)
                    self._end_task()
            case Offer():
                self._on_offer(command)
            case _:
                pass

    def _on_announce(self, announce: RoundAnnounce) -> None:
        changed = self.jobs.learn(announce)
        if self.jobs.active and self.worker.runtime_bytes == 0 and self.jobs.worth_warming():
            self.worker.warm()
        self._want_adapter_parts()
        if changed:
            self._replan()

    # Greeting

    def _greet(self) -> None:
        if not self.link.connected:
            return
        if self._greeting is not None:
            self.asking.forget(self._greeting)
        self._greeting = f"{self.session}-{self.asking.new_id()}"
        hello = Hello(
            id=self._greeting,
            session=self.session,
            agent_version=LORIKEET_VERSION,
            wire_version=WIRE_VERSION,
        )
        self.asking.ask(self._greeting, hello, self._on_greeted, time.monotonic())

    def _on_greeted(self, reply: Reply) -> None:
        if isinstance(reply, Refused):
            if reply.final:
                raise RefusedError(reply.reason)
            log.warning("the hub asks to wait: %s", reply.reason)
            return
        if not self.welcomed:
            log.info("the hub took this session")
        self.welcomed = True
        self.teller.state("ready")
        self.teller.info()
        self.asking.repeat_all(time.monotonic())

    # Plans

    def _replan(self) -> None:
        runtime = (resident_bytes(os.getpid()) or 0) + self.worker.runtime_bytes
        for job, plan in self.jobs.plan(runtime, warmed=self.worker.runtime_bytes > 0).items():
            log.info("job %s: role %s. %s", job, plan.role, plan.reason)
        if self.welcomed:
            self.teller.info()

    # Tasks

    def _on_offer(self, offer: Offer) -> None:
        if self.task is not None:
            if self.task.offer.task == offer.task:
                self._take(offer, None)
            elif self.task.offer.job == offer.job and self.task.offer.round < offer.round:
                log.info("task %s is out of date", self.task.offer.task)
                self._end_task()
                self._begin(offer)
            else:
                self._take(offer, f"busy with {self.task.offer.task}")
            return
        self._begin(offer)

    def _begin(self, offer: Offer) -> None:
        if self.jobs.shape_of(offer.job) is None:
            self._take(offer, f"job {offer.job} was never announced here")
            return
        self.task = TaskRun(offer, time.monotonic())
        log.info("task %s: %s as %s. %s", offer.task, offer.kind, offer.role, offer.reason)
        self._take(offer, None)
        self.advance()

    def _take(self, offer: Offer, reason: str | None) -> None:
        request = self.asking.new_id()
        take = Take(
            id=request, session=self.session, task=offer.task, accept=reason is None, reason=reason
        )
        if self.task is not None and reason is None:
            self.task.requests.append(request)

        def answered(reply: Reply) -> None:
            if isinstance(reply, Refused) and self._runs(offer.task):
                log.info("task %s is not wanted any more: %s", offer.task, reply.reason)
                self._end_task()

        self.asking.ask(request, take, answered, time.monotonic())

    def _runs(self, task: str) -> bool:
        return self.task is not None and self.task.offer.task == task

    def advance(self) -> None:
        """Take the running task as far as it goes now."""
        task = self.task
        if task is None or task.reported:
            return
        if task.failure is not None:
            self._report("failed")
            return
        offer = task.offer
        if task.finished is None:
            if task.working:
                return
            base = self.worker.base_folder(offer.base)
            if base is None:
                task.stage = "base"
                folder = str(self.folder / "models" / offer.base)
                self.worker.fetch(Fetch(http=offer.http, digest=offer.base, folder=folder))
                return
            parts = self._adapter_files(offer)
            if parts is None:
                task.stage = "adapter"
                return
            task.adapter_wait_s = time.monotonic() - task.started_at
            task.stage = "work"
            task.working = True
            self.worker.work(self._work(offer, base, parts))
            self.teller.telemetry()
            return
        if task.update is not None and not task.uploaded:
            task.stage = "upload"
            self.uploads.begin(task)
            return
        self._report("done")

    def _work(self, offer: Offer, base: Path, parts: dict[str, str]) -> Work:
        plan = self.jobs.plan_of(offer.job)
        out = self.folder / "work"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return Work(
            task=offer.task,
            role=offer.role,
            rung=offer.rung,
            rank=offer.rank,
            base_folder=str(base),
            manifest=str(self.blobs.path(offer.adapter.sha256)),
            parts=parts,
            data=self.settings.data,
            codec=offer.codec,
            out=str(out),
            batch=offer.work.batch if offer.work else plan.batch if plan else 1,
            seq_len=offer.work.seq_len if offer.work else plan.seq_len if plan else 128,
            work=offer.work,
            variants=offer.variants,
        )

    def _adapter_files(self, offer: Offer) -> dict[str, str] | None:
        """Return the adapter's files by sha256, or None while some are still under way."""
        now = time.monotonic()
        reference = offer.adapter
        if not self.collector.want(reference.sha256, reference.size_bytes, now):
            return None
        manifest = self._manifest(reference.sha256)
        if manifest is None:
            return None
        here = [self.collector.want(p.sha256, p.size_bytes, now) for p in manifest.parts]
        if not all(here):
            return None
        return {part.sha256: str(self.blobs.path(part.sha256)) for part in manifest.parts}

    def _manifest(self, sha256: str) -> AdapterManifest | None:
        path = self.blobs.path(sha256)
        if path is None:
            return None
        try:
            return AdapterManifest.decode(path.read_bytes())
        except WireError as error:
            log.warning("adapter manifest %s can't be used: %s", sha256[:12], error)
            return None

    def _want_adapter_parts(self) -> None:
        """Gather the newest adapter of each job as it is broadcast; let older ones go."""
        now = time.monotonic()
        wanted = {}
        references = self.jobs.adapters()
        if self.task is not None:
            references.append(self.task.offer.adapter)
        for reference in references:
            wanted[reference.sha256] = reference.size_bytes
            manifest = self._manifest(reference.sha256)
            for part in manifest.parts if manifest else []:
                wanted[part.sha256] = part.size_bytes
        self.collector.keep_only(set(wanted))
        keep = set(wanted)
        if self.task is not None and self.task.update is not None:
            keep.add(self.task.update)
        for sha256 in self.blobs.all():
            if sha256 not in keep:
                self.blobs.delete(sha256)
        for sha256, size_bytes in wanted.items():
            self.collector.want(sha256, size_bytes, now)

    def _report(self, status: str) -> None:
        task = self.task
        if task is None:
            return
        task.reported = True
        task.stage = "report"
        request = self.asking.new_id()
        task.requests.append(request)
        plan = self.jobs.plan_of(task.offer.job)
        result = Result(
            id=request,
            session=self.session,
            task=task.offer.task,
            job=task.offer.job,
            round=task.offer.round,
            status="done" if status == "done" else "failed",
            sha256=task.update,
            reason=task.failure,
            train=task.finished.train if task.finished else None,
            evaluations=task.evaluations,
            peak_bytes=self.peak_bytes(),
            predicted_peak_bytes=plan.predicted_peak_bytes if plan else 0,
            bytes_up=self.link.bytes_up,
            bytes_down=self.link.bytes_down + self.worker.fetched_bytes,
            download_s=task.adapter_wait_s,
            upload_s=task.upload_s,
            upload_bytes=task.update_bytes,
        )
        self.asking.ask(request, result, self._on_result, time.monotonic())

    def _on_result(self, reply: Reply) -> None:
        if isinstance(reply, Refused):
            log.warning("the hub refused the result: %s", reply.reason)
        self._end_task()

    def _end_task(self) -> None:
        task = self.task
        if task is None:
            return
        self.task = None
        self.asking.forget(*task.requests)
        self.uploads.cancel()
        if task.update is not None:
            self.blobs.delete(task.update)
        if task.working and task.finished is None:
            self.worker.replace()  # the only way to stop a step that is under way
        self.teller.telemetry()

    # The worker

    def _on_worker(self, event: object) -> None:
        task = self.task
        match event:
            case Ready():
                self.worker.on_ready(event)
                self._replan()
            case Fetched():
                self.worker.on_fetched(event)
                self.advance()
            case Progress() if task is not None and event.task in (task.offer.task, ""):
                task.stage, task.step, task.loss = event.stage, event.step, event.loss
                self.teller.progress()
            case Losses() if task is not None and event.task == task.offer.task:
                self._on_losses(task, event)
            case Finished() if task is not None and event.task == task.offer.task:
                self.worker.on_idle()
                task.finished = event
                if event.update is not None:
                    task.update = self.blobs.put_file(Path(event.update))
                    task.update_bytes = self.blobs.size(task.update) or 0
                self.advance()
            case Failed():
                self.worker.on_idle()
                self._on_failed(event)
            case _:
                log.debug("passed over %s", type(event).__name__)

    def _on_losses(self, task: TaskRun, losses: Losses) -> None:
        task.evaluations = losses.evaluations
        if task.offer.kind == "evaluate":
            return  # the result carries them
        request = self.asking.new_id()
        evaluated = Evaluated(
            id=request,
            session=self.session,
            task=task.offer.task,
            job=task.offer.job,
            round=task.offer.round,
            evaluations=losses.evaluations,
        )
        self.asking.ask(request, evaluated, lambda _reply: None, time.monotonic())

    def _on_failed(self, failed: Failed) -> None:
        log.warning("the task failed (%s): %s", failed.kind, failed.message)
        self.teller.event(failed.kind, failed.message)
        task = self.task
        if task is None:
            return
        if failed.kind == "memory":
            self._step_down()
        task.failure = f"{failed.kind}: {failed.message}"
        self.advance()

    def _on_worker_death(self, code: int) -> None:
        over = self.worker.killed_for_memory
        self.worker.on_death()
        log.warning("the worker ended with code %d%s", code, " (over its memory)" if over else "")
        task = self.task
        if over or code == -9:
            self.teller.event("oom", f"the worker was killed (code {code}); the agent goes on")
            self._step_down()
        if task is not None and task.finished is None:
            task.failure = f"the worker ended with code {code}"
            self.advance()
        elif self.jobs.active and self.jobs.worth_warming():
            self.worker.warm()

    def _step_down(self) -> None:
        """What ran out of memory is not planned again: only what needs less."""
        if self.task is not None:
            self.jobs.lower(self.task.offer.job)
            self._replan()

    # Timers

    def _tick(self, now: float) -> None:
        self.asking.tick(now)
        self.collector.tick(now)
        self.worker.tick(now, busy=self.task is not None, limit_bytes=self.limit.limit_bytes)
        self.teller.tick(now)
        task = self.task
        if task is not None and now > task.ends_at and not task.uploading and not task.reported:
            task.failure = f"not done within {task.offer.deadline_s:.0f} s"
            if task.working and task.finished is None:
                self.worker.replace()
            task.working = False
            self.advance()

    # Saying

    def _send(self, message: Message) -> bool:
        topic = self.topics.request(self.settings.device, str(message.NAME))
        return self.link.publish(topic, encode(message), message.QOS)

    def _ask_blob(self, sha256: str, missing: Ranges) -> None:
        """Ask once; the collector itself asks again when nothing comes."""
        request = self.asking.new_id()
        self._send(BlobGet(id=request, session=self.session, sha256=sha256, missing=missing))

    def on_credit(self, credit: Credit) -> None:
        """See `Uploads`."""
        self.uploads.on_credit(credit)

    def peak_bytes(self) -> int:
        """Greatest resident memory of supervisor and worker together, in bytes."""
        return (peak_bytes(os.getpid()) or 0) + self.worker.peak_bytes

    def progress(self) -> TaskProgress | None:
        """How far the running task is."""
        task = self.task
        if task is None:
            return None
        return TaskProgress(
            task=task.offer.task,
            stage=task.stage,
            step=task.step,
            steps=task.steps,
            loss=task.loss,
        )
