"""FedBuff: late updates move the adapter less (Nguyen et al. 2022, arXiv 2106.06639).

The hub adds η/K Σ s(τₖ) Δₖ over the K updates of its buffer, here a round (algorithm 1), with
s(τ) = 1/√(1 + τ) for a staleness of τ rounds (section 5). Unlike FedAvg's, the weights don't sum
to 1 then: what a late update loses, no other one gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import LocalTerms, Trained
from hub.aggregation.weights import check, damped


@dataclass(frozen=True)
class FedBuff:
    """Equal shares, each of them damped by its own staleness; η is the hub's rate."""

    name: ClassVar[str] = "fedbuff"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    server: ClassVar[None] = None
    local: ClassVar[LocalTerms] = LocalTerms()

    lr: float = 1.0

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return η s(τₖ) / K."""
        check(updates)
        return [self.lr * damped(update.staleness) / len(updates) for update in updates]


STRATEGY = FedBuff()
