"""Trains LoRA factors, or cores, on all linear layers, behind the current soft prompt."""

from edge_agent.errors import AdapterError
from edge_agent.roles.contract import Role
from edge_agent.training.contract import Trained


class Lora:
    """The ``rank`` leading components are trained; the rest and the prompt stay as they are.

    On the rung ``core`` all components stay, and a core of side ``rank`` is trained beside them.
    """

    name = "lora"
    rungs: tuple[str, ...] = ("resident", "checkpointed", "streamed", "core")
    trains = True
    weight_decay = 0.01

    def trained(self, rung: str, rank: int) -> Trained:
        """Return factors or cores of the rank.

        Raises:
            AdapterError: the rank is 0.
        """
        if rank < 1:
            raise AdapterError(f"rank is {rank}; a LoRA task needs 1 or more.")
        return Trained(core=rank) if rung == "core" else Trained(rank=rank)


ROLE: Role = Lora()
