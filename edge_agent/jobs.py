"""The jobs a device has heard of, and the rung it takes in each."""

import logging
import shutil
from pathlib import Path

import msgspec

from edge_agent.calibration import Calibration
from edge_agent.failures import Failures
from edge_agent.planner import choose, ladder
from wire.errors import TooLargeError
from wire.messages import AdapterRef, ModelShape, RoundAnnounce, RungPlan

log = logging.getLogger(__name__)

#: As many plans as `DeviceInfo` takes.
MAX_JOBS = 64
#: As many characters of a reason as `RungPlan` takes.
MAX_REASON = 1000
_OVER = ("done", "failed", "cancelled")


def residuals_of(folder: Path, job: str) -> Path:
    """Return where the worker keeps what its updates for a job left out, in the state folder."""
    return folder / "residuals" / job


class KnownJobs:
    """What was announced, and what was planned for it.

    Args:
        failures: what ran out of memory before, and under which limit.
        folder: the agent's state; a job that is over leaves nothing there.
    """

    def __init__(self, failures: Failures, folder: Path) -> None:
        self._failures = failures
        self._folder = folder
        self._announced: dict[str, RoundAnnounce] = {}
        self._lines: dict[str, list[RungPlan]] = {}  # by job: the whole ladder
        self._not_made: dict[str, dict[str, str]] = {}  # by base and kind of file: why
        self.plans: dict[str, RungPlan] = {}
        self._finished: RoundAnnounce | None = None

    @property
    def finished(self) -> RoundAnnounce | None:
        """The end of the job that was done last, if this device had a role in it.

        Its adapter is gathered like any other: the device's user goes on with it.
        """
        return self._finished

    @property
    def active(self) -> list[str]:
        """Names of the jobs that are still going on."""
        return list(self._announced)

    def learn(self, announce: RoundAnnounce) -> bool:
        """Remember an announcement; True if the plans may have changed.

        Raises:
            TooLargeError: it would be one job too many; it isn't remembered.
        """
        known = self._announced.get(announce.job)
        if announce.phase in _OVER:
            self._forget(announce.job)
            shutil.rmtree(residuals_of(self._folder, announce.job), ignore_errors=True)
            plan = self.plans.pop(announce.job, None)
            if announce.phase == "done" and plan is not None and plan.role != "none":
                self._finished = announce
            return plan is not None
        if known is None and len(self._announced) >= MAX_JOBS:
            raise TooLargeError(f"{MAX_JOBS} jobs are going on; {announce.job} is one too many.")
        self._announced[announce.job] = announce
        if self._finished is not None and self._finished.job == announce.job:
            self._finished = None  # it goes on
        if known is None:
            return True
        return known.knobs != announce.knobs or known.base != announce.base

    def plan(self, calibration: Calibration | None) -> dict[str, RungPlan]:
        """Plan every active job anew; return the plans.

        Args:
            calibration: of this device; until there is one, nothing is promised.
        """
        if calibration is None:
            return {}
        self.plans = {}
        for job in self.active:
            known = self._announced[job]
            limit = self._failures.limit_of(job)
            try:
                base = known.base
                why = self._not_made.get(base.digest, {})
                kinds = [kind for kind in base.derived if kind not in why]
                lines = ladder(base.shape, known.knobs, limit, calibration, derived=kinds)
                lines = self._failures.judge(job, lines)
                plan = _explained(choose(lines), list(why.values()))
                plan = msgspec.convert(msgspec.to_builtins(plan), RungPlan)
            except (ArithmeticError, ValueError) as error:
                # One job's impossible numbers are not another's trouble.
                log.warning("job %s can't be planned, and is left out: %s", job, error)
                self._forget(job)
                continue
            self._lines[job] = lines
            self.plans[job] = plan
        return dict(self.plans)

    def _forget(self, job: str) -> None:
        self._announced.pop(job, None)
        self._lines.pop(job, None)

    def lower(self, job: str, failed: RungPlan) -> None:
        """A line of the job's ladder ran out of memory: `plan` stays below it from now on."""
        self._failures.add(job, failed)

    def leave_out(self, base: str, kind: str, reason: str) -> None:
        """The hub doesn't make a kind of file of a base: `plan` does without it from now on.

        Args:
            base: its digest.
            kind: of `wire.derived.DERIVED`.
            reason: the hub's.
        """
        self._not_made.setdefault(base, {})[kind] = reason

    def forget_not_made(self) -> bool:
        """Plan with all kinds of files again; True if any was left out."""
        found = bool(self._not_made)
        self._not_made.clear()
        return found

    def lines_of(self, job: str) -> list[RungPlan]:
        """Return the job's ladder as it was planned last, the highest line first."""
        return self._lines.get(job, [])

    def announced(self, job: str) -> RoundAnnounce | None:
        """Return what was said last of a job that is still going on, and of the one done last."""
        done = self._finished
        return done if done is not None and done.job == job else self._announced.get(job)

    def plan_of(self, job: str) -> RungPlan | None:
        return self.plans.get(job)

    def serves(self, job: str) -> bool:
        """Whether nothing is trained here in a job: its adapter is evaluated and used."""
        plan = self.plans.get(job)
        return plan is not None and plan.rung == "infer"

    def shape_of(self, job: str) -> ModelShape | None:
        known = self._announced.get(job)
        return known.base.shape if known else None

    def adapters(self) -> list[AdapterRef]:
        """The newest adapter of each active job that this device has a role in, and the last's."""
        done = self._finished.adapter if self._finished is not None else None
        found = [
            known.adapter
            for job, known in self._announced.items()
            if known.adapter is not None
            and (plan := self.plans.get(job)) is not None
            and plan.role != "none"
        ]
        return found if done is None else [done, *found]


def _explained(plan: RungPlan, not_made: list[str]) -> RungPlan:
    """Return a plan; of role ``none`` with why there are fewer files of the base to choose from."""
    if plan.role != "none" or not not_made:
        return plan
    return msgspec.structs.replace(plan, reason="; ".join([plan.reason, *not_made])[:MAX_REASON])
