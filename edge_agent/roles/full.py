"""Trains all weights of the base (McMahan et al. 2017, arXiv 1602.05629), in float32."""

from edge_agent.roles.contract import Role
from edge_agent.training.contract import Trained


class Full:
    """Every parameter is trained from where the adapter has moved it."""

    name = "full"
    rungs: tuple[str, ...] = ("resident", "checkpointed")
    trains = True
    #: As for LoRA's factors.
    weight_decay = 0.01

    def trained(self, rung: str, rank: int) -> Trained:  # noqa: ARG002 - of what is trained
        """Return that all weights are trained."""
        return Trained(full=True)


ROLE: Role = Full()
