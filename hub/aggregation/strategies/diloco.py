"""DiLoCo: many local steps, then one Nesterov step (Douillard et al. 2023, arXiv 2311.08105).

The outer gradient is −Δ, the mean difference of the devices (algorithm 1, lines 12 to 14), each of
which counts the same. With Nesterov's momentum (Sutskever et al. 2013, in the form of
torch.optim.SGD):

    v ← β v + Δ,   w ← w + η (Δ + β v).

The defaults are the paper's (section 3): AdamW within, η = 0.7, β = 0.9.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import LocalTerms, Momentum, Trained
from hub.aggregation.weights import evenly


@dataclass(frozen=True)
class DiLoCo:
    """Nesterov's momentum β and the outer rate η on the mean of equal shares."""

    name: ClassVar[str] = "diloco"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    local: ClassVar[LocalTerms] = LocalTerms()

    lr: float = 0.7
    momentum: float = 0.9

    @property
    def server(self) -> Momentum:
        """w moves by η Δ + η β v."""
        return Momentum(decay=self.momentum, fresh=self.lr, carried=self.lr * self.momentum)

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return equal weights that sum to 1, but for late updates: those are damped."""
        return evenly(updates)


STRATEGY = DiLoCo()
