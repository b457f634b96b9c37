"""The running task, from its offer to the hub's word that the result is on record."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.lines import line_of
from edge_agent.peaks import peak_of
from edge_agent.protocol import Fetch, Finished, Losses, Paused, Progress
from edge_agent.task_run import TaskRun
from edge_agent.task_work import STATE_FILE, result_of, work_of
from edge_agent.upload import Uploads
from wire.messages import (
    BlobRef,
    Cancel,
    Evaluated,
    Offer,
    Refused,
    Reply,
    RungPlan,
    Take,
    TaskProgress,
)
from wire.transfer import check_sha256

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)


def allows(plan: RungPlan, offer: Offer) -> bool:
    """Return whether a device's present plan has room for an offered task.

    The hub may have scheduled it with an older plan: from before a restart with less memory, say.
    """
    if offer.work is None:
        return plan.role != "none"
    return (
        plan.role == offer.role
        and offer.rank <= plan.rank
        and offer.work.batch <= plan.batch
        and offer.work.seq_len <= plan.seq_len
    )


def controls_of(offer: Offer) -> list[BlobRef]:
    """Return the control variates that a task trains with."""
    work = offer.work
    found = (work.control, work.own_control) if work is not None else ()
    return [one for one in found if one is not None]


class Tasks:
    """At most one task runs at a time. Each step looks at what is there, so it may be repeated.

    Args:
        agent: whose parts are used.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self.uploads = Uploads(agent)
        self.current: TaskRun | None = None

    def on_offer(self, offer: Offer) -> None:
        if self.current is not None:
            if self.current.offer.task == offer.task:
                # What was accepted last may be news, if the hub was still checking it.
                known = msgspec.structs.replace(self.current.offer, accepted=offer.accepted)
                self.current.offer = known
                self._take(offer, None)
            elif self.current.offer.job == offer.job and self.current.offer.round < offer.round:
                log.info("task %s is out of date", self.current.offer.task)
                self._end_task()
                self._begin(offer)
            else:
                self._take(offer, f"busy with {self.current.offer.task}")
            return
        self._begin(offer)

    def _begin(self, offer: Offer) -> None:
        if self._agent.jobs.shape_of(offer.job) is None:
            self._take(offer, f"job {offer.job} was never announced here")
            return
        plan = self._agent.jobs.plan_of(offer.job)
        if plan is None:
            return  # still measuring; the offer is repeated
        if not allows(plan, offer):
            self._take(offer, f"the plan is now: {plan.reason}")
            return
        others = [one.sha256 for one in controls_of(offer)]
        for sha256 in (offer.base, offer.adapter.sha256, *others):
            check_sha256(sha256)  # both become names of files
        line = line_of(offer, self._agent.jobs.lines_of(offer.job), plan)
        if line is None:
            self._take(offer, f"what is offered ran out of memory; the plan is now: {plan.reason}")
            return
        self._agent.slices.offered(offer.job, offer.deadline_s)
        self.current = TaskRun(offer, line, time.monotonic())
        log.info("task %s: %s as %s. %s", offer.task, offer.kind, offer.role, offer.reason)
        self._take(offer, None)
        self.advance()

    def _take(self, offer: Offer, reason: str | None) -> None:
        request = self._agent.asking.new_id()
        take = Take(
            id=request,
            session=self._agent.session,
            task=offer.task,
            accept=reason is None,
            reason=reason,
        )
        if self.current is not None and reason is None:
            self.current.requests.append(request)

        def answered(reply: Reply) -> None:
            if isinstance(reply, Refused) and self._runs(offer.task):
                log.info("task %s is not wanted any more: %s", offer.task, reply.reason)
                self._end_task()

        self._agent.asking.ask(request, take, answered, time.monotonic())

    def _runs(self, task: str) -> bool:
        return self.current is not None and self.current.offer.task == task

    def advance(self) -> None:
        """Take the running task as far as it goes now."""
        task = self.current
        if task is None or task.reported:
            return
        if task.failure is not None:
            self._report()
        elif task.finished is None:
            if not task.working:
                self._prepare(task)
        elif task.update is not None and not task.uploaded:
            task.stage = "upload"
            self.uploads.begin(task)
        else:
            self._report()

    def _prepare(self, task: TaskRun) -> None:
        """Hand the task to the worker once base and adapter are here."""
        offer = task.offer
        derived = task.line.derived
        base = self._agent.worker.base_folder(offer.base, derived)
        if base is None:
            task.stage = "base"
            folder = str(self._agent.worker.base_place(offer.base, derived))
            if self._agent.metering.reason is not None:
                return  # no large thing goes today
            self._agent.worker.fetch(
                Fetch(
                    http=offer.http,
                    digest=offer.base,
                    folder=folder,
                    derived=derived,
                    bytes_per_s=self._agent.metering.down_bytes_per_s,
                    most_bytes=self._agent.metering.left_bytes,
                )
            )
            return
        adapter = self._agent.adapters.files(offer.adapter)
        if not self._agent.adapters.has(controls_of(offer)) or adapter is None:
            task.stage = "adapter"
            return
        task.adapter_wait_s = task.adapter_wait_s or time.monotonic() - task.started_at
        if self._agent.resting.trouble is not None or self._agent.local_serving.yields:
            task.stage = "paused"
            return
        task.base = base.name
        task.stage = "work"
        task.working = True
        self._agent.worker.work(work_of(self._agent, task, base, adapter), task.line)

    def _report(self) -> None:
        task = self.current
        if task is None:
            return
        task.reported = True
        task.stage = "report"
        request = self._agent.asking.new_id()
        task.requests.append(request)
        measured_bytes = self._agent.task_peak_bytes()
        if task.failure is None and (task.offer.work is not None or task.line.role == "infer"):
            limit_bytes = self._agent.limit.limit_bytes
            peak = peak_of(task.offer.task, task.line, measured_bytes, limit_bytes)
            self._agent.peaks.add(peak)
        result = result_of(self._agent, task, request, measured_bytes)
        self._agent.asking.ask(request, result, self._on_result, time.monotonic())

    def _on_result(self, reply: Reply) -> None:
        if isinstance(reply, Refused):
            log.warning("the hub refused the result: %s", reply.reason)
        self._end_task()

    def _end_task(self) -> None:
        task = self.current
        if task is None:
            return
        self.current = None
        self._agent.asking.forget(*task.requests)
        self.uploads.cancel()
        if task.update is not None:
            self._agent.blobs.delete(task.update)
        if task.working and task.finished is None:
            self._agent.worker.replace()  # the only way to stop a step that is under way
        (self._agent.folder / STATE_FILE).unlink(missing_ok=True)
        self._agent.teller.telemetry()

    # What the worker and the hub report

    def on_worker(self, event: Progress | Losses | Finished | Paused) -> None:
        """Take what the worker reports of the running task."""
        task = self.current
        if task is None or (event.task != task.offer.task and task.working):
            return
        match event:
            case Progress():
                task.stage, task.step, task.loss = event.stage, event.step, event.loss
                self._agent.teller.progress()
            case Losses():
                self._on_losses(task, event)
            case Finished():
                self._agent.worker.on_idle()
                task.finished = event
                if event.update is not None:
                    task.update = self._agent.blobs.put_file(Path(event.update))
                    task.update_bytes = self._agent.blobs.size(task.update) or 0
                self._agent.local_serving.changed()  # parts may be made that were not
                self.advance()
            case Paused():
                self._agent.worker.on_idle()
                self._agent.setbacks.on_paused(task, event)

    def on_cancel(self, cancel: Cancel) -> None:
        """The hub doesn't want a task any more."""
        if self._runs(cancel.task):
            log.info("task %s is cancelled: %s", cancel.task, cancel.reason)
            self._end_task()

    def fail(self, reason: str) -> None:
        """The worker can't do the running task; tell the hub."""
        task = self.current
        if task is not None and task.finished is None:
            task.failure = reason
            task.working = False
            self.advance()

    def on_wrong_difference(self, reason: str) -> None:
        """What was made of differences isn't the adapter: gather it whole, and begin again."""
        task = self.current
        if task is None or task.finished is not None:
            return
        log.warning("the adapter of %s is gathered whole: %s", task.offer.task, reason)
        self._agent.adapters.distrust(task.offer.adapter)
        task.working = False
        self.advance()

    def refresh_adapters(self) -> None:
        """Gather the newest adapters, let older ones go."""
        task = self.current
        keep = self._agent.local_serving.kept
        if task is not None and task.update is not None:
            keep.add(task.update)
        others = controls_of(task.offer) if task is not None else []
        self._agent.adapters.refresh(task.offer.adapter if task else None, keep, others)

    def tick(self, now: float) -> None:
        """Send what may go; give up what took too long: the hub has closed the round."""
        self.uploads.tick(now)
        task = self.current
        if task is None or task.uploading or task.reported:
            return
        if now > task.ends_at:
            if task.working and task.finished is None:
                self._agent.worker.replace()
            trouble = self._agent.resting.trouble
            why = f"; it rests: {trouble.reason}" if trouble is not None else ""
            why += "; a user waits for answers" if self._agent.local_serving.yields else ""
            self.fail(f"not done within {task.offer.deadline_s:.0f} s{why}")

    def progress(self) -> TaskProgress | None:
        """Return how far the running task is."""
        task = self.current
        if task is None:
            return None
        return TaskProgress(
            task=task.offer.task,
            stage=task.stage,
            rung=task.line.rung,
            step=task.step,
            steps=task.steps,
            loss=task.loss,
        )

    def _on_losses(self, task: TaskRun, losses: Losses) -> None:
        task.evaluations = losses.evaluations
        if task.offer.kind == "evaluate":
            return  # the result carries them
        request = self._agent.asking.new_id()
        evaluated = Evaluated(
            id=request,
            session=self._agent.session,
            task=task.offer.task,
            job=task.offer.job,
            round=task.offer.round,
            evaluations=losses.evaluations,
        )
        self._agent.asking.ask(request, evaluated, lambda _reply: None, time.monotonic())
