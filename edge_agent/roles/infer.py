"""Trains nothing: evaluates the global adapter on the device's own held-out text."""

from edge_agent.roles.contract import Role
from edge_agent.training.contract import Trained


class Infer:
    """The whole adapter is frozen in place."""

    name = "infer"
    rungs: tuple[str, ...] = ("infer",)
    trains = False
    weight_decay = 0.0

    def trained(self, rung: str, rank: int) -> Trained:  # noqa: ARG002 - of what is trained
        """Return that nothing is trained."""
        return Trained()


ROLE: Role = Infer()
