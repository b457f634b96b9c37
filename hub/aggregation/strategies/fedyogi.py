"""FedYogi: Adam at the hub whose v falls slowly (Reddi et al. 2021, arXiv 2003.00295, algorithm 2).

    m ← β₁ m + (1 − β₁) Δ,   v ← v − (1 − β₂) Δ² sign(v − Δ²),   w ← w + η m / (√v + τ),

entry by entry, with the round's mean difference Δ, m = 0 and v = τ² at first. It needs a basis in
which an entry keeps its meaning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hub.aggregation.contract import Array64, LocalTerms, Trained
from hub.aggregation.weights import by_tokens


@dataclass(frozen=True)
class FedYogi:
    """FedAvg's mean, then Yogi with the hub's rate η, β₁, β₂ and adaptivity τ."""

    name: ClassVar[str] = "fedyogi"
    basis: ClassVar[Literal["any", "fixed"]] = "fixed"
    local: ClassVar[LocalTerms] = LocalTerms()
    slots: ClassVar[tuple[str, ...]] = ("first", "second")

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    @property
    def server(self) -> "FedYogi":
        """Itself."""
        return self

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return tokens / √(1 + staleness) of each update, scaled to sum to 1."""
        return by_tokens(updates)

    def step(
        self, difference: Array64, before: Mapping[str, Array64] | None
    ) -> tuple[Array64, dict[str, Array64]]:
        """Return η m / (√v + τ), and m and v."""
        square = np.square(difference)
        if before is None:
            first, second = np.zeros_like(square), np.full_like(square, self.tau**2)
        else:
            first, second = before["first"], before["second"]
        m = self.beta1 * first + (1 - self.beta1) * difference
        v = second - (1 - self.beta2) * square * np.sign(second - square)
        return self.lr * m / (np.sqrt(v) + self.tau), {"first": m, "second": v}


STRATEGY = FedYogi()
