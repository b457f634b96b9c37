"""FedAvgM: momentum at the hub (Hsu et al. 2019, arXiv 1909.06335, section 4.3).

v ← β v + Δ, w ← w + η v, with the round's mean difference Δ. Both are linear in Δ, so under LoRA v
is a sum of products B A, never of factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import LocalTerms, Momentum, Trained
from hub.aggregation.weights import by_tokens


@dataclass(frozen=True)
class FedAvgM:
    """FedAvg's mean with momentum β and the hub's rate η."""

    name: ClassVar[str] = "fedavgm"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    local: ClassVar[LocalTerms] = LocalTerms()

    lr: float = 1.0
    momentum: float = 0.9

    @property
    def server(self) -> Momentum:
        """w moves by η v."""
        return Momentum(decay=self.momentum, fresh=0.0, carried=self.lr)

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return tokens / √(1 + staleness) of each update, scaled to sum to 1."""
        return by_tokens(updates)


STRATEGY = FedAvgM()
