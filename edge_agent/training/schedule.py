"""The learning rate of each step: a rise, then a constant, a line or half a cosine down.

The cosine is that of Loshchilov and Hutter, 2017, arXiv 1608.03983, without restarts. All of it is
over one task's own steps.
"""

import math

#: What follows the rise, by name.
SCHEDULES = ("constant", "linear", "cosine")
#: A rise where none is asked for: AdamW's first steps follow the signs of single gradients.
WARMUP_STEPS = 3


def warmup_of(warmup_steps: int | None, steps: int) -> int:
    """Return over how many steps the rate rises; at least the last one has all of it.

    Args:
        warmup_steps: as asked for; None for `WARMUP_STEPS`, at most a quarter of all.
        steps: of the task.
    """
    if warmup_steps is None:
        return min(WARMUP_STEPS, steps // 4)
    return min(warmup_steps, steps - 1)


def factor_of(step: int, steps: int, schedule: str, warmup: int) -> float:
    """Return what the learning rate is multiplied with, above 0 and at most 1.

    Args:
        step: from 1.
        steps: of the task.
        schedule: of `SCHEDULES`.
        warmup: as `warmup_of` returns it.
    """
    if step <= warmup:
        return step / (warmup + 1)
    # 0 at the first step behind the rise; the last step is not taken with a rate of 0.
    gone = (step - warmup - 1) / (steps - warmup)
    match schedule:
        case "linear":
            return 1 - gone
        case "cosine":
            return (1 + math.cos(math.pi * gone)) / 2
        case _:
            return 1.0
