"""How long a round lasts, and how many steps fit into it."""

import math
from collections.abc import Sequence
from statistics import median

#: A round lasts this many times what the median device is expected to need.
SLACK = 2.0
#: A device plans to be done within this share of the deadline.
SAFETY = 0.9
MIN_DEADLINE_S = 30.0
MAX_DEADLINE_S = 86_400.0
#: Before anything was timed: room for loading, and for steps of a slow board.
UNTIMED_LOAD_S = 120.0
UNTIMED_STEP_S = 30.0


def auto_deadline_s(
    predicted_s: Sequence[float], *, steps: int, untimed: int = 0, fixed: bool = False
) -> float:
    """Return the deadline of a round whose job leaves it to the hub, in seconds.

    With nobody timed: ``120 + 30 * steps``. It costs little, as a round closes when everyone who
    can deliver has; only a silent device makes a round last that long. Otherwise twice the median
    of the predicted times; four times if a member is untimed, which is thereby allowed to be half
    as fast as the median. The median keeps a device that reports absurd times from stretching the
    round. Always within 30 s and one day.

    Args:
        predicted_s: the time that each timed member needs for all steps, load and link included.
        steps: the job's local steps; with a member that trains without backprop, at least as many
            as take as long as its work.
        untimed: members that were never timed.
        fixed: steps are given (a seeded job): the slowest member gets 1.5 times its own need,
            but at most four times what the median would give.
    """
    if not predicted_s:
        return min(UNTIMED_LOAD_S + UNTIMED_STEP_S * steps, MAX_DEADLINE_S)
    deadline_s = SLACK * median(predicted_s) * (2.0 if untimed else 1.0)
    if fixed:
        deadline_s = max(deadline_s, min(1.5 * max(predicted_s), 4.0 * deadline_s))
    return min(max(deadline_s, MIN_DEADLINE_S), MAX_DEADLINE_S)


def fitting_steps(
    deadline_s: float,
    *,
    steps: int,
    seconds_per_step: float,
    overhead_s: float,
) -> int:
    """Return how many of the wanted steps end in time; 0: not even one does.

    ``floor((0.9 * deadline - overhead) / seconds_per_step)``, at most ``steps``.

    Args:
        overhead_s: loading, download and upload.
    """
    free_s = SAFETY * deadline_s - overhead_s
    if free_s < seconds_per_step:
        return 0
    if seconds_per_step * steps <= free_s:
        return steps
    return min(steps, math.floor(free_s / seconds_per_step))
