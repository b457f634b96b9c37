"""What keeps the running task from its end for a while: too little memory, a file of the base that
the hub can't make, or a device that rests.

None ends it. What ran out of memory is taken again one line of the ladder down, what can have no
file on a line with another one, and what was paused goes on where it stood, all with the same task
id, for as long as the hub waits for it.
"""

import logging
import queue
import time
from typing import TYPE_CHECKING

from edge_agent.lines import line_of, lower_line
from edge_agent.peaks import peak_of
from edge_agent.protocol import Failed, Fetch, Finished, Paused
from edge_agent.task_run import TaskRun
from edge_agent.tasks import allows
from edge_agent.worker_process import WorkerDied, WorkerEvent
from wire.messages import RungPlan

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

log = logging.getLogger(__name__)

#: A worker that is killed before it has a task, while it fetches a base, is started again so often.
MAX_WORKER_DEATHS = 3
#: A device that is short of memory may never end a step; the worker's state is on disk.
PRESSURE_PATIENCE_S = 30.0
#: An agent that is stopped waits so long for the end of a step; else a minute's work is lost.
STOP_PATIENCE_S = 5.0


class Setbacks:
    """Turns setbacks of the running task into another try.

    Args:
        agent: whose parts are used.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent

    def out_of_memory(self, reason: str) -> None:
        """The worker ran out of memory, and has ended or is of no more use.

        Args:
            reason: how that showed.
        """
        task = self._agent.tasks.current
        if task is None or task.finished is not None:
            self._agent.teller.event("oom", reason)
        elif not task.working:
            self._agent.teller.event("oom", reason)
            self._try_again(task, reason)
        else:
            self._step_down(task, reason)

    def not_made(self, fetch: Fetch, reason: str) -> None:
        """The hub doesn't make a kind of file of a base: it is planned without, here, from now on.

        Args:
            fetch: what was asked for.
            reason: the hub's.
        """
        agent, task = self._agent, self._agent.tasks.current
        agent.jobs.leave_out(fetch.digest, fetch.derived, reason)
        agent.replan()
        if task is None or task.working or task.finished is not None:
            return
        if (task.offer.base, task.line.derived) == (fetch.digest, fetch.derived):
            plan = agent.jobs.plan_of(task.offer.job)
            line = None
            if plan is not None and allows(plan, task.offer):
                line = line_of(task.offer, agent.jobs.lines_of(task.offer.job), plan)
            if line is None:
                agent.tasks.fail(reason)
                return
            task.line = line
        agent.tasks.advance()

    def ask_to_rest(self) -> None:
        """Let the worker save the running task's state and let go of it, once a step ends."""
        task = self._agent.tasks.current
        if task is not None and _works(task) and task.pause_asked_at is None:
            task.pause_asked_at = time.monotonic()
            self._agent.worker.pause(task.offer.task)

    def on_paused(self, task: TaskRun, event: Paused) -> None:
        """The worker has let go of the task."""
        log.info("task %s rests after step %d", task.offer.task, event.step)
        self._rest(task)

    def save_before_end(self) -> None:
        """The agent is being stopped: let the worker save the running task's state, if it soon can.

        Takes over the inbox; what else stands there is of no interest any more.
        """
        task = self._agent.tasks.current
        if task is None or not _works(task):
            return
        self.ask_to_rest()
        until = time.monotonic() + STOP_PATIENCE_S
        while (left_s := until - time.monotonic()) > 0:
            try:
                event = self._agent.inbox.get(timeout=left_s)
            except queue.Empty:
                return
            match event:
                case WorkerEvent(event=Paused() | Finished() | Failed()) | WorkerDied():
                    return
                case _:
                    continue

    def tick(self, now: float) -> None:
        """End a worker that can't end its step, for the device is too short of memory."""
        task, trouble = self._agent.tasks.current, self._agent.resting.trouble
        if task is None or task.pause_asked_at is None or not _works(task) or trouble is None:
            return
        if trouble.kind == "pressure" and now - task.pause_asked_at > PRESSURE_PATIENCE_S:
            log.warning("task %s reaches no step's end; the worker is ended", task.offer.task)
            self._agent.worker.replace()
            self._rest(task)

    def _try_again(self, task: TaskRun, reason: str) -> None:
        """No rung is at fault: the worker was fetching the base."""
        task.worker_deaths += 1
        if task.worker_deaths < MAX_WORKER_DEATHS:
            self._agent.tasks.advance()
        else:
            self._agent.tasks.fail(reason)

    def _step_down(self, task: TaskRun, reason: str) -> None:
        agent, offer, failed = self._agent, task.offer, task.line
        peak = peak_of(offer.task, failed, agent.task_peak_bytes(), agent.limit.limit_bytes)
        agent.jobs.lower(offer.job, failed)
        agent.replan()
        lower = lower_line(offer, agent.jobs.lines_of(offer.job), failed)
        next_ = "nothing below serves it" if lower is None else f"next is {_words(lower)}"
        detail = (
            f"{reason}; {_words(failed)} was predicted to take {_mb(failed.predicted_peak_bytes)} "
            f"of {_mb(peak.limit_bytes)}, {_mb(peak.measured_peak_bytes)} were seen; {next_}"
        )
        log.warning("task %s ran out of memory: %s", offer.task, detail)
        agent.teller.event("oom", detail, peak)
        if lower is None:
            agent.tasks.fail(f"out of memory: {detail}")
            return
        task.line = lower
        _let_go(task)
        agent.tasks.advance()

    def _rest(self, task: TaskRun) -> None:
        _let_go(task)
        task.stage = "paused"
        trouble = self._agent.resting.trouble
        if trouble is not None and trouble.kind == "pressure":
            self._agent.worker.stop()  # what it holds without a task is wanted elsewhere, too
        self._agent.teller.telemetry()
        self._agent.tasks.advance()  # all may be well again by now


def _works(task: TaskRun) -> bool:
    return task.working and task.finished is None


def _let_go(task: TaskRun) -> None:
    task.working = False
    task.pause_asked_at = None


def _words(line: RungPlan) -> str:
    rank = f" of rank {line.rank}" if line.rank else ""
    return f"rung {line.rung}{rank}, {line.batch} x {line.seq_len} tokens,"


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
