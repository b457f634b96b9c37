"""All weights of a resident model, trained in float32 from base plus difference.

The base's own parameters stay beside them: the loss of the bare base is measured with them, and
what is sent is the difference to where training started from, base + difference.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_agent.errors import AdapterError
from edge_agent.loss import Loss
from edge_agent.training.loss import backward_loss, evaluate_loss
from edge_agent.training.start import Start


class WholeModel:
    """A model whose weights are trained; see `edge_agent.training.contract.Placed`.

    Args:
        model: of transformers; until `restore` it has the trained weights in place of its own.
        start: by how much the weights have moved.

    Attributes:
        trained: every parameter by its name, one that is used twice once.

    Raises:
        AdapterError: the start is of other weights, or a file of it is broken.
    """

    def __init__(self, model: Any, start: Start) -> None:
        self._model = model
        self._start = start
        self._base: dict[str, nn.Parameter] = dict(model.named_parameters())
        self._users = _users(model, self._base)
        _check(self._base, start)
        self.trained: dict[str, nn.Parameter] = {}
        for name, value in self._base.items():
            self.trained[name] = nn.Parameter(torch.from_numpy(self._value(name)).to(value.device))
        self._use(self.trained)

    def evaluate_loss(self, ids: torch.Tensor, labels: torch.Tensor, variant: str) -> Loss:
        """Return the loss of a batch."""
        with self._bare() if variant == "base" else nullcontext():
            return evaluate_loss(self._model, None, ids, labels)

    def backward_loss(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor,
        tokens: int | None = None,
        epsilon: float = 0.0,
    ) -> Loss:
        """Add the gradient of a batch's mean loss per token."""
        return backward_loss(self._model, None, ids, labels, tokens, epsilon=epsilon)

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return the difference to the start, by names on the wire."""
        return {name: self._now(name) - self._value(name) for name in self.trained}

    def values(self) -> Mapping[str, NDArray[np.float32]]:
        """Return how far each weight is from the base now."""
        return _Made(list(self.trained), lambda name: self._now(name) - self._own(name))

    def restore(self) -> None:
        """Give the model its own weights back."""
        self._use(self._base)

    def _now(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.trained[name].detach().cpu().numpy()
        return found

    def _own(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._base[name].detach().float().cpu().numpy()
        return found

    def _value(self, name: str) -> NDArray[np.float32]:
        """Return a weight as it was at the start, in memory of its own."""
        return self._own(name) + self._start.weight(name)

    def _use(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, users in self._users.items():
            for module, key in users:
                module._parameters[key] = parameters[name]

    @contextmanager
    def _bare(self) -> Iterator[None]:
        self.restore()
        try:
            yield
        finally:
            self._use(self.trained)


class _Made(Mapping[str, NDArray[np.float32]]):
    """Arrays that are made when they are asked for."""

    def __init__(self, names: list[str], make: Callable[[str], NDArray[np.float32]]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _users(
    model: Any, parameters: Mapping[str, nn.Parameter]
) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return where each parameter is used: tied embeddings are in two modules."""
    names = {id(value): name for name, value in parameters.items()}
    users: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in parameters}
    for module in model.modules():
        for key, value in module._parameters.items():
            if value is not None:
                users[names[id(value)]].append((module, key))
    return users


def _check(base: Mapping[str, nn.Parameter], start: Start) -> None:
    shapes = {name: tuple(value.shape) for name, value in base.items()}
    if not start.weights:
        raise AdapterError(f"{start.name} has no weights to train.")
    wrong = sorted(
        name for name in {*shapes, *start.weights} if shapes.get(name) != start.weights.get(name)
    )
    if wrong:
        raise AdapterError(
            f"the adapter has {wrong[0]} as {start.weights.get(wrong[0])}; in the base model it is "
            f"{shapes.get(wrong[0])}. It was made for another base."
        )
