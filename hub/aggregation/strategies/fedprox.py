"""FedProx: devices are held near their start (Li et al. 2020, arXiv 1812.06127).

Device k minimises hₖ(w) = Fₖ(w) + μ/2 ‖w − wᵗ‖², with whatever optimiser it has (algorithm 2), so
μ (w − wᵗ) is added to each gradient. Under LoRA w are the device's factors. The hub averages as in
FedAvg.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import LocalTerms, Trained
from hub.aggregation.weights import by_tokens


@dataclass(frozen=True)
class FedProx:
    """FedAvg's mean of devices that are pulled towards their start by μ."""

    name: ClassVar[str] = "fedprox"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    server: ClassVar[None] = None

    mu: float = 0.01

    @property
    def local(self) -> LocalTerms:
        """The proximal term."""
        return LocalTerms(proximal_mu=self.mu)

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return tokens / √(1 + staleness) of each update, scaled to sum to 1."""
        return by_tokens(updates)


STRATEGY = FedProx()
