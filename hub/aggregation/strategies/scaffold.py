"""SCAFFOLD: control variates correct the drift of devices (Karimireddy et al. 2020, 1910.06378).

Device i steps along g + c − cᵢ, where cᵢ is about its own gradient and c the mean of all. With
option II (algorithm 1, line 12), after K steps of η from x to y,

    cᵢ⁺ = cᵢ − c + (x − y) / (K η),   c ← mean of all cᵢ,   x ← x + η_g mean (y − x).

Each term of cᵢ⁺ is known to the hub once it has the update y − x, so the hub keeps all cᵢ, nothing
but the update travels up, and a device that lost its disk loses nothing. (The paper's line 16 moves
c by the sum of what changed over the number of devices: that is the mean, as all begin with 0.)

(x − y) / (K η) is a mean gradient only if steps are plain: see `needs`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hub.aggregation.contract import Array64, LocalTerms, Trained
from hub.aggregation.weights import evenly


class OptionTwo:
    """The control variate that costs no further gradient."""

    def after(
        self, own: Array64, common: Array64, difference: Array64, steps: int, lr: float
    ) -> Array64:
        """Return cᵢ − c + (x − y) / (K η)."""
        return own - common - difference / (steps * lr)


@dataclass(frozen=True)
class Scaffold:
    """Equal shares and the hub's rate η_g; devices are corrected by c − cᵢ."""

    name: ClassVar[str] = "scaffold"
    basis: ClassVar[Literal["any", "fixed"]] = "fixed"
    server: ClassVar[None] = None
    local: ClassVar[LocalTerms] = LocalTerms(
        control=OptionTwo(),
        needs={
            "optimizer": "sgd",
            "momentum": 0.0,
            "schedule": "constant",
            "warmup_steps": 0,
            "clip": None,
        },
        why="its control variates are the mean of plain gradient steps of one length",
    )

    lr: float = 1.0

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return η_g / K; late updates are damped, and the others count more."""
        return [self.lr * share for share in evenly(updates)]


STRATEGY = Scaffold()
