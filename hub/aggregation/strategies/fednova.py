"""FedNova: a device that did more steps doesn't pull further (Wang et al. 2020, arXiv 2007.07481).

The update of device k is a sum of its gradients, Δₖ = −η Gₖ aₖ (equation 5): aₖ tells how much each
of its τₖ steps counts in the end. The paper averages what is left per unit of it and takes τ_eff
such units (equation 6),

    Δ = τ_eff Σ pₖ Δₖ / ‖aₖ‖₁,   τ_eff = Σ pₖ ‖aₖ‖₁,

so that equal devices give FedAvg. A gradient g moves a device that has momentum ρ and a proximal
term μ (section 4) by d₁ = 1, d₂, ... in units of −η g:

    u₀ = 1,  uⱼ = ρ uⱼ₋₁ − η μ dⱼ,  dⱼ₊₁ = dⱼ + uⱼ;   ‖aₖ‖₁ = d₁ + ... + d_τₖ,

τₖ for plain SGD, (τ − ρ(1 − ρ^τ)/(1 − ρ))/(1 − ρ) with momentum, (1 − (1 − ημ)^τ)/(ημ) with the
proximal term. A schedule of the rate is the same for all, and nearly cancels. AdamW's steps are
about as long as one another, whatever the gradient: they count as plain ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import AggregationError, LocalTerms, Trained
from hub.aggregation.weights import by_tokens


@dataclass(frozen=True)
class FedNova:
    """Weights by tokens and by how far a device's steps reach; μ is the proximal term's."""

    name: ClassVar[str] = "fednova"
    basis: ClassVar[Literal["any", "fixed"]] = "any"
    server: ClassVar[None] = None

    mu: float = 0.0

    @property
    def local(self) -> LocalTerms:
        """The proximal term."""
        if not self.mu:
            return LocalTerms()
        why = "it reckons how far plain gradient steps with a proximal term reach"
        return LocalTerms(proximal_mu=self.mu, needs={"optimizer": "sgd"}, why=why)

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return τ_eff pₖ / ‖aₖ‖₁ of each update, pₖ being FedAvg's weight."""
        shares = by_tokens(updates)
        lengths = [self._length(update) for update in updates]
        effective = math.fsum(p * length for p, length in zip(shares, lengths, strict=True))
        return [effective * p / length for p, length in zip(shares, lengths, strict=True)]

    def _length(self, update: Trained) -> float:
        """Return ‖aₖ‖₁."""
        moved, last, total = 1.0, 1.0, 0.0
        for _ in range(update.steps):
            total += moved
            last = update.momentum * last - update.lr * self.mu * moved
            moved += last
        if not total > 0:
            raise AggregationError(
                f"{update.steps} steps at a rate of {update.lr} swing around their start "
                f"(server.mu {self.mu}, momentum {update.momentum}). Lower server.mu."
            )
        return total


STRATEGY = FedNova()
