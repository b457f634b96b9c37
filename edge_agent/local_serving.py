"""The agent's side of `lorikeet-agent serve`: tells what may be served, and yields to a user.

A server is a process of its own, which may be there or not; what it needs lies in the state folder
(`edge_agent.serving_state`).
"""

import logging
from typing import TYPE_CHECKING

from edge_agent.serving_state import (
    FILE,
    LOCK,
    Made,
    ServedJob,
    ServingState,
    read_state,
    user_waits,
    write_state,
)
from wire.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.agent import Supervisor
    from edge_agent.gather import Gathered

log = logging.getLogger(__name__)

#: So long after the last answer training goes on: a conversation is not over with one.
QUIET_S = 8.0
#: Jobs that nobody speaks of (over, or not announced yet since a start), whose adapter is kept.
_MOST_OVER = 4


class LocalServing:
    """What this device's server is told, and whether its user waits.

    Args:
        agent: whose adapters are served, and whose task yields.
    """

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._changed = True
        self._quiet_at = float("-inf")
        self._yields = False
        self._unusable: set[str] = set()  # files of which that was said
        self._known = _known(agent.folder)

    @property
    def yields(self) -> bool:
        """Whether no task goes on now, since a user waits, or did so a moment ago."""
        return self._yields

    @property
    def kept(self) -> set[str]:
        """Blobs that a server may need."""
        return {blob for job in self._known.jobs for blob in job.blobs}

    def changed(self) -> None:
        """Something came that may be part of an adapter, or of a base."""
        self._changed = True

    def tick(self, now: float) -> None:
        """Write what is new; let the running task yield, or go on."""
        if self._changed:
            self._changed = not self._done(FILE, self._write)
        self._listen(now)

    def _done(self, file: str, step: "Callable[[], None]") -> bool:
        """Return whether a step succeeded; a file's trouble is said once, and ends no agent."""
        try:
            step()
        except OSError as error:
            if file not in self._unusable:
                self._unusable.add(file)
                log.warning(
                    "%s can't be used (%s): lorikeet-agent serve knows of nothing new, or isn't "
                    "heard. Free the disk, or give this user the file.",
                    self._agent.folder / file,
                    error.strerror or error,
                )
            return False
        self._unusable.discard(file)
        return True

    def _look(self, now: float) -> None:
        if user_waits(self._agent.folder):
            self._quiet_at = now + QUIET_S

    def _listen(self, now: float) -> None:
        agent = self._agent
        self._done(LOCK, lambda: self._look(now))
        before, self._yields = self._yields, now < self._quiet_at
        if self._yields:
            if not before:
                log.info("a user waits for an answer: no task goes on")
            agent.setbacks.ask_to_rest()
        elif before:
            log.info("no user waits any more")
            agent.tasks.advance()

    def _write(self) -> None:
        agent = self._agent
        done = agent.jobs.finished
        active = [name for name in agent.jobs.active if done is None or name != done.job]
        names = {*active, *([done.job] if done is not None else [])}
        jobs = [job for name in sorted(names) if (job := self._job(name)) is not None]
        # The one that goes on comes before the one that is over.
        jobs.sort(key=lambda job: (job.job not in active, -job.round))
        # Of an active job the adapter before is served until the next one is whole.
        found = {job.job for job in jobs}
        earlier = [one for one in self._known.jobs if one.job in names - found]
        over = [one for one in self._known.jobs if one.job not in names | found]
        state = ServingState(
            device=agent.settings.device,
            http=agent.hub.http if agent.hub is not None else self._known.http,
            jobs=[*jobs, *earlier, *over[:_MOST_OVER]],
        )
        if state != self._known:
            write_state(agent.folder, state)
            self._known = state

    def _job(self, name: str) -> ServedJob | None:
        """Return a job's newest adapter if all of it is here."""
        announced = self._agent.jobs.announced(name)
        if announced is None or announced.adapter is None:
            return None
        plan = self._agent.jobs.plan_of(name)
        done = self._agent.jobs.finished is announced
        if not done and (plan is None or plan.role == "none"):
            return None  # its adapters aren't gathered
        gathered = self._agent.adapters.files(announced.adapter)
        if gathered is None:
            return None
        return ServedJob(
            job=name,
            round=announced.round,
            base=announced.base.digest,
            derived=list(announced.base.derived),
            manifest=announced.adapter.sha256,
            parts=sorted(gathered.files),
            made=_made(gathered),
            components=gathered.components,
        )


def _made(gathered: "Gathered") -> list[Made]:
    return [
        Made(
            part=one.part,
            held=_sha256(one.held),
            differences=[_sha256(path) for path in one.differences],
        )
        for one in gathered.following
    ]


def _sha256(path: str) -> str:
    """Return the name of a blob's file, which is its sha256."""
    return path.rpartition("/")[2]


def _known(folder: "Path") -> ServingState:
    try:
        return read_state(folder) or ServingState(device="")
    except (MalformedError, OSError) as error:
        log.warning("%s", error)
        return ServingState(device="")
