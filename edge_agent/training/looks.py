"""How far to look along a direction, and how far to go, from the losses that are seen there."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wire.forward_only import rounded

Losses = NDArray[np.float64]

#: A look aims at a curvature that lifts the loss by so much, in nats a token: far above what
#: rounding in a base of few bits makes of it, far below where the parabola ends.
LIFT = 0.003
#: From one look at a core to the next its distance changes by at most this factor.
GROWTH = 3.0
#: A step goes at most so many times as far as was looked.
TRUST = 2.0


class Step(NamedTuple):
    """What is done along a direction.

    Attributes:
        distance: as it travels.
        level: the loss of each half of the rows that the parabolas have there.
    """

    distance: float
    level: Losses


class Looks:
    """What was learnt of the cores by looking.

    Args:
        epsilon: the first look's distance.
    """

    def __init__(self, epsilon: float) -> None:
        self._epsilon = epsilon
        self._far: dict[int, float] = {}
        self._contradiction = 0.0  # sum over all looks, in nats
        self._count = 0

    def distance(self, core: int) -> float:
        """Return how far to look in a core."""
        return self._far.get(core, self._epsilon)

    def judge(self, core: int, level: Losses, up: Losses, down: Losses) -> Step:
        """Return the step that pays.

        The halves' slopes differ by chance; with v the variance of their mean, g² + v is expected
        of a squared slope g², so that of a step -g / h the share 1 - v / g² is worth going
        (James and Stein 1961, *Estimation with quadratic loss*). v is h times a mean over all
        looks, as slopes vary in proportion to curvatures where a model fits its text.

        Args:
            core: where.
            level: the loss of each half as it is.
            up, down: a distance up the direction, and down.
        """
        far = self.distance(core)
        slopes, bends = (up - down) / (2 * far), (up + down - 2 * level) / far**2
        slope, bend = float(slopes.mean()), float(bends.mean())
        if not (math.isfinite(slope) and math.isfinite(bend)):
            self._far[core] = far / GROWTH
            return Step(0.0, level)
        wanted = math.sqrt(2 * LIFT / bend) if bend > 0 else math.inf
        self._far[core] = min(max(wanted, far / GROWTH), far * GROWTH)
        # Where it bends down, or hardly up, the lowest point is beyond what was seen.
        steep = max(bend, abs(slope) / (TRUST * far))
        if steep <= 0:
            return Step(0.0, level)
        self._contradiction += float(slopes.var()) / max(1, len(slopes) - 1) / steep
        self._count += 1
        worth, doubt = slope**2 / steep, self._contradiction / self._count
        share = max(0.0, 1.0 - doubt / worth) if worth > 0 else 0.0
        distance = rounded(-share * slope / steep)
        return Step(distance, level + slopes * distance + max(bend, 0.0) * distance**2 / 2)

    def state(self) -> dict[str, float]:
        """Return what `restore` takes."""
        found = {str(core): far for core, far in self._far.items()}
        return found | {"contradiction": self._contradiction, "count": float(self._count)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        self._far = {int(name): far for name, far in state.items() if name.isdigit()}
        self._contradiction = state.get("contradiction", 0.0)
        self._count = int(state.get("count", 0))
