"""How many slices of an adapter a device takes: all to train, to serve as many as its link allows.

A device that trains needs every component, as it keeps those that it doesn't train frozen in place.
One that only serves and evaluates can do without the least important ones.
"""

from collections.abc import Callable, Sequence

from wire.manifest import AdapterManifest, AdapterPart

#: Of the time that the hub gives a task, the adapter may take so much.
TIME_SHARE = 0.5
#: Until a first task tells how much that is, in seconds.
FIRST_S = 60.0
#: Of what is left of a day's data, one adapter may take so much.
DAY_SHARE = 0.1
_REMEMBERED = 256

Cost = Callable[[AdapterPart], int]


class SliceChoice:
    """Which parts of each adapter are wanted, decided once for each.

    Args:
        serves: returns whether nothing is trained here in a job.
        bytes_per_s: returns what the link brings in a second; None: not known.
        left_bytes: returns what may still be moved today; None: any number of bytes.
    """

    def __init__(
        self,
        serves: Callable[[str], bool],
        bytes_per_s: Callable[[], float | None],
        left_bytes: Callable[[], int | None],
    ) -> None:
        self._serves = serves
        self._bytes_per_s = bytes_per_s
        self._left_bytes = left_bytes
        self._time_s: dict[str, float] = {}  # by job: a task's
        self._chosen: dict[tuple[str, int], int] = {}  # by job and round: slices

    def offered(self, job: str, deadline_s: float) -> None:
        """Learn how long a task of a job may take, in seconds."""
        self._time_s[job] = deadline_s

    def parts(self, manifest: AdapterManifest, cost: Cost) -> list[AdapterPart]:
        """Return the parts that are wanted, LoRA's slices with the most important one first.

        Args:
            manifest: the adapter's.
            cost: returns how many bytes a part would take on the link.
        """
        slices = manifest.lora_slices()
        others = [part for part in manifest.parts if part.name != "lora"]
        if len(slices) < 2 or not self._serves(manifest.job):
            return [*slices, *others]
        key = manifest.job, manifest.round
        if key not in self._chosen:
            rest = sum(map(cost, others))
            budget = self._budget(manifest.job, rest)
            self._chosen[key] = affordable(list(map(cost, slices)), budget)
            while len(self._chosen) > _REMEMBERED:
                del self._chosen[next(iter(self._chosen))]
        return [*slices[: self._chosen[key]], *others]

    def heard(self, jobs: Sequence[str]) -> int | None:
        """Return how many slices of any of these jobs are wanted; None: all."""
        most = 0
        for job in jobs:
            rounds = [round_ for name, round_ in self._chosen if name == job]
            if not rounds or not self._serves(job):
                return None
            most = max(most, self._chosen[job, max(rounds)])
        return most or None

    def _budget(self, job: str, spent: int) -> float | None:
        budgets, seconds = [], self._time_s.get(job, FIRST_S)
        bytes_per_s, left_bytes = self._bytes_per_s(), self._left_bytes()
        if bytes_per_s is not None:
            budgets.append(bytes_per_s * seconds * TIME_SHARE - spent)
        if left_bytes is not None:
            budgets.append(left_bytes * DAY_SHARE - spent)
        return min(budgets, default=None)


def affordable(costs: Sequence[int], budget: float | None) -> int:
    """Return how many slices fit into a budget, in bytes; at least the first one is taken."""
    if budget is None:
        return len(costs)
    spent, count = 0, 0
    for cost in costs:
        spent += cost
        if spent > budget:
            break
        count += 1
    return max(1, count)
