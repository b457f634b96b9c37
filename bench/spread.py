"""Means over seeds, and how far chance alone may have moved them."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

#: Student's t at 97.5 % for 1 to 9 degrees of freedom (two-sided 95 %), from any table of it.
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Interval(NamedTuple):
    """A mean, and the 95 % interval around it."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Return the mean and its 95 % t interval; of a single value the interval is everything.

    Args:
        values: one for each seed, 1 to 10 of them. For a paired comparison: the differences.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf)
    half = _T975[len(values) - 2] * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def spread_text(values: Sequence[float], digits: int = 4) -> str:
    """Return ``mean ± standard deviation``; of a single value just that."""
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.{digits}f}"
