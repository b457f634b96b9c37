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
        self.plans: dict[str, RungPlan] = {}

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
            return self.plans.pop(announce.job, None) is not None
        if known is None and len(self._announced) >= MAX_JOBS:
            raise TooLargeError(f"{MAX_JOBS} jobs are going on; {announce.job} is one too many.")
        self._announced[announce.job] = announce
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
                lines = ladder(known.base.shape, known.knobs, limit, calibration)
                lines = self._failures.judge(job, lines)
                plan = msgspec.convert(msgspec.to_builtins(choose(lines)), RungPlan)
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

    def lines_of(self, job: str) -> list[RungPlan]:
        """Return the job's ladder as it was planned last, the highest line first."""
        return self._lines.get(job, [])

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
        """The newest adapter of each active job that this device has a role in."""
        return [
            known.adapter
            for job, known in self._announced.items()
            if known.adapter is not None
            and (plan := self.plans.get(job)) is not None
            and plan.role != "none"
        ]
