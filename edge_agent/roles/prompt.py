"""Trains the soft prompt only (Lester et al., 2021, arXiv 2104.08691), the adapter in place."""

from edge_agent.roles.contract import Role
from edge_agent.training.contract import Trained


class Prompt:
    """All LoRA components stay as they are; the embeddings in front of the text are trained."""

    name = "prompt"
    rungs: tuple[str, ...] = ("prompt",)
    trains = True
    #: Decay would pull a prompt towards zero, which is no token's embedding.
    weight_decay = 0.0

    def trained(self, rung: str, rank: int) -> Trained:  # noqa: ARG002 - of LoRA's factors
        """Return that the soft prompt is trained."""
        return Trained(prompt=True)


ROLE: Role = Prompt()
