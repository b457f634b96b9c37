"""FedAvg: an update counts as much as the data behind it (McMahan et al. 2017, arXiv 1602.05629).

Late updates are damped by 1/√(1 + s) for a staleness of s rounds, as in FedBuff (Nguyen et al.
2022, arXiv 2106.06639); the others then count more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import LocalTerms, Trained
from hub.aggregation.weights import by_tokens


@dataclass(frozen=True)
class FedAvg:
    """Weights by tokens trained on, damped by staleness."""

    name: ClassVar[str] = "fedavg"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    server: ClassVar[None] = None
    local: ClassVar[LocalTerms] = LocalTerms()

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return tokens / √(1 + staleness) of each update, scaled to sum to 1."""
        return by_tokens(updates)


STRATEGY = FedAvg()
