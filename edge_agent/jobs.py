"""The jobs a device has heard of, and the rung it takes in each."""

from edge_agent.failures import Failures
from edge_agent.planner import choose, ladder
from wire.messages import AdapterRef, ModelShape, RoundAnnounce, RungPlan

#: No torch worker was ever seen to start in less. Below it, warming up one would only
#: break the limit that we were given.
LEAST_RUNTIME_BYTES = 200_000_000
_OVER = ("done", "failed", "cancelled")


class KnownJobs:
    """What was announced, and what was planned for it.

    Args:
        limit_bytes: memory for the whole agent.
        failures: what ran out of it before.
    """

    def __init__(self, limit_bytes: int, failures: Failures) -> None:
        self._limit_bytes = limit_bytes
        self._failures = failures
        self._announced: dict[str, RoundAnnounce] = {}
        self._lines: dict[str, list[RungPlan]] = {}  # by job: the whole ladder
        self.plans: dict[str, RungPlan] = {}

    @property
    def active(self) -> list[str]:
        """Names of the jobs that are still going on."""
        return [job for job, known in self._announced.items() if known.phase not in _OVER]

    def learn(self, announce: RoundAnnounce) -> bool:
        """Remember an announcement; True if the plans may have changed."""
        known = self._announced.get(announce.job)
        self._announced[announce.job] = announce
        if announce.phase in _OVER:
            return self.plans.pop(announce.job, None) is not None
        if known is None or known.phase in _OVER:
            return True
        return known.knobs != announce.knobs or known.base != announce.base

    def worth_warming(self) -> bool:
        """Whether a worker could start at all within the limit."""
        return self._limit_bytes >= LEAST_RUNTIME_BYTES

    def plan(self, runtime_bytes: int, *, warmed: bool) -> dict[str, RungPlan]:
        """Plan every active job anew; return the plans.

        Args:
            runtime_bytes: resident memory of supervisor and warm worker.
            warmed: whether the worker's share was measured. Until then nothing is promised,
                except to devices that could not even start one.
        """
        if not warmed:
            if self.worth_warming():
                return {}
            runtime_bytes += LEAST_RUNTIME_BYTES
        self.plans = {}
        for job in self.active:
            known = self._announced[job]
            limit = self._failures.limit_of(job)
            lines = ladder(known.base.shape, known.knobs, limit, runtime_bytes)
            self._lines[job] = self._failures.judge(job, lines)
            self.plans[job] = choose(self._lines[job])
        return dict(self.plans)

    def lower(self, job: str, failed: RungPlan) -> None:
        """A line of the job's ladder ran out of memory: `plan` stays below it from now on."""
        self._failures.add(job, failed)

    def lines_of(self, job: str) -> list[RungPlan]:
        """Return the job's ladder as it was planned last, the highest line first."""
        return self._lines.get(job, [])

    def plan_of(self, job: str) -> RungPlan | None:
        return self.plans.get(job)

    def shape_of(self, job: str) -> ModelShape | None:
        known = self._announced.get(job)
        return known.base.shape if known else None

    def adapters(self) -> list[AdapterRef]:
        """The newest adapter of each active job that this device has a role in."""
        return [
            known.adapter
            for job, known in self._announced.items()
            if known.phase not in _OVER
            and known.adapter is not None
            and (plan := self.plans.get(job)) is not None
            and plan.role != "none"
        ]
