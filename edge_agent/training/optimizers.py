"""What a task's words say of its optimiser: which, with what state, at which rates."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch

from edge_agent.errors import AgentError
from edge_agent.training.adamw import AdamW
from edge_agent.training.schedule import SCHEDULES
from edge_agent.training.sgd import SGD
from wire.messages import LocalWork


class Optimizer(Protocol):
    """Moves parameters along their gradients.

    Attributes:
        steps: how many were taken.
    """

    steps: int

    def state(self) -> list[dict[str, torch.Tensor]]:
        """Return what is kept of each parameter, in their order, by kind."""

    def step(self, lr: float, clip: float | None) -> None:
        """Apply the gradients, their common norm clipped, and drop them."""


_MAKERS: dict[str, Callable[[Iterable[torch.Tensor], LocalWork, float], Optimizer]] = {
    "adamw": lambda parameters, _, decay: AdamW(parameters, decay),
    "sgd": lambda parameters, work, decay: SGD(parameters, decay, work.momentum),
}


def check_words(work: LocalWork) -> None:
    """Check that this version can do what a hub asks for, before anything is loaded.

    Raises:
        AgentError: it can't.
    """
    for name, word, known in (
        ("optimizer", work.optimizer, tuple(_MAKERS)),
        ("schedule", work.schedule, SCHEDULES),
    ):
        if word not in known:
            raise AgentError(
                f"{name} is {word!r}; known here are {', '.join(known)}. Update the agent."
            )
    if not 0 <= work.momentum < 1:
        raise AgentError(f"momentum is {work.momentum}; must be from 0 to below 1.")
    if work.weight_decay is not None and not 0 <= work.weight_decay <= 1:
        raise AgentError(f"weight_decay is {work.weight_decay}; must be from 0 to 1.")
    if work.clip is not None and not work.clip > 0:
        raise AgentError(f"clip is {work.clip}; must be above 0.")


def optimizer_for(
    work: LocalWork, parameters: Iterable[torch.Tensor], weight_decay: float
) -> Optimizer:
    """Return a task's optimiser, its state new.

    Args:
        work: names it; its weight decay counts if it has one.
        parameters: float32.
        weight_decay: of the role.

    Raises:
        AgentError: no such optimiser is known.
    """
    check_words(work)
    decay = weight_decay if work.weight_decay is None else work.weight_decay
    return _MAKERS[work.optimizer](parameters, work, decay)
