"""Evaluates the global adapter on the device's own held-out text; trains cores without backprop."""

from edge_agent.roles.contract import Role
from edge_agent.training.contract import Trained

#: Without a backward pass; see `edge_agent.training.forward_only`.
FORWARD_ONLY = "forward-only"


class Infer:
    """The whole adapter is frozen in place, but for small cores on the rung ``forward-only``."""

    name = "infer"
    rungs: tuple[str, ...] = (FORWARD_ONLY, "infer")
    trains = False
    weight_decay = 0.0

    def trained(self, rung: str, rank: int) -> Trained:
        """Return cores of the rank, or that nothing is trained."""
        return Trained(core=rank) if rung == FORWARD_ONLY and rank else Trained()


ROLE: Role = Infer()
