"""The adapter in a resident model: the device's part to be trained, the rest frozen in place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_agent.loss import Loss
from edge_agent.training.adapter_check import check
from edge_agent.training.contract import Trained
from edge_agent.training.loss import backward_loss, evaluate_loss
from edge_agent.training.lowrank import (
    REST,
    TRAINED,
    LowRankLinear,
    factors,
    inject,
    layers,
    remove,
    set_core,
)
from edge_agent.training.start import CORE, PROMPT, Start, core_start, leading, trailing
from wire.trained_factors import Trains, only_trained


@dataclass(frozen=True)
class PlacedAdapter:
    """An adapter in a base model.

    Attributes:
        model: the base model, with the adapter's layers in it.
        prompt: the soft prompt, (tokens, hidden), or None.
        trained: what the device trains, by names on the wire.
        start: where training started from.
        rank: how many leading components are trained.
        factors: which of their factors, or a core between them.
        alone: whether they are trained as if there were no others.
    """

    model: Any
    prompt: torch.Tensor | None
    trained: dict[str, nn.Parameter]
    start: Start
    rank: int
    factors: Trains = "both"
    alone: bool = False

    def evaluate_loss(self, ids: torch.Tensor, labels: torch.Tensor, variant: str) -> Loss:
        """Return the loss of a batch; see `edge_agent.training.contract.Placed`."""
        prompt = None if self.prompt is None or variant != "adapter" else self.prompt.detach()
        found = layers(self.model).values() if variant == "base" else ()
        for layer in found:
            layer.off = True
        try:
            return evaluate_loss(self.model, prompt, *self._there(ids, labels))
        finally:
            for layer in found:
                layer.off = False

    def backward_loss(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor,
        tokens: int | None = None,
        epsilon: float = 0.0,
    ) -> Loss:
        """Add a batch's gradient; see `edge_agent.training.contract.Placed`."""
        found = layers(self.model).values() if self.alone else ()
        for layer in found:
            layer.alone = True
        try:
            ids, labels = self._there(ids, labels)
            return backward_loss(self.model, self.prompt, ids, labels, tokens, epsilon=epsilon)
        finally:
            for layer in found:
                layer.alone = False

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return the difference to the start, float32 by names on the wire."""
        return {
            name: value.detach().cpu().numpy() - self._start(name)
            for name, value in self.trained.items()
        }

    def values(self) -> dict[str, NDArray[np.float32]]:
        """Return what is trained, as it is now; of a core, the product with its directions."""
        if self.factors != "core":
            return {name: value.detach().cpu().numpy() for name, value in self.trained.items()}
        found: dict[str, NDArray[np.float32]] = {}
        for name, value in self.trained.items():
            target = name.removesuffix(CORE)
            u, _ = core_start(self.start, target, self.rank)
            found[f"{target}.lora_A"] = leading(self.start, f"{target}.lora_A", self.rank)
            found[f"{target}.lora_B"] = u @ value.detach().cpu().numpy()
        return found

    def _there(self, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch where the model is."""
        return ids.to(self.model.device), labels.to(self.model.device)

    def _start(self, name: str) -> NDArray[np.float32]:
        if name.endswith(CORE):
            return core_start(self.start, name.removesuffix(CORE), self.rank)[1]
        return self.start.prompt() if name == PROMPT else leading(self.start, name, self.rank)


def place(
    model: Any, targets: Mapping[str, tuple[int, int]], start: Start, trained: Trained
) -> PlacedAdapter:
    """Put a global adapter into a resident model, in place of the one that was there.

    Args:
        model: kept between tasks; its own weights are never changed.
        targets: its linear layers, (out, in) by module path.
        start: the adapter.
        trained: what this device trains of it.

    Raises:
        AdapterError: the adapter does not fit the base or the request, or a file is broken.
    """
    check(model.config.hidden_size, targets, start, trained)
    rank = trained.rank
    remove(model)
    ranks = {target: start.rank_of(target) for target in start.shapes}
    if rank:
        inject(model, TRAINED, {target: min(rank, whole) for target, whole in ranks.items()})
    behind = {target: whole - rank for target, whole in ranks.items() if whole > rank}
    if behind:
        inject(model, REST, behind)
    found = layers(model)
    with torch.no_grad():
        for name, value in (factors(found, TRAINED) if rank else {}).items():
            value.copy_(torch.from_numpy(leading(start, name, rank)))
        for name, value in factors(found, REST).items():
            value.copy_(torch.from_numpy(trailing(start, name, rank)))
    prompt = torch.from_numpy(start.prompt()).to(model.device) if start.tokens else None
    moved = only_trained(factors(found, TRAINED), trained.factors) if rank else {}
    if rank and trained.factors == "core":
        moved = _cores(found, start, rank)
    if trained.prompt and prompt is not None:
        prompt = nn.Parameter(prompt)
        moved[PROMPT] = prompt
    for value in moved.values():
        value.requires_grad_(True)
    alone = trained.rest == "absent" and 0 < rank < start.rank
    return PlacedAdapter(model, prompt, moved, start, rank, trained.factors, alone)


def _cores(found: Mapping[str, LowRankLinear], start: Start, rank: int) -> dict[str, nn.Parameter]:
    """Put directions in place of B and a core in front of each; return the cores by name."""
    cores: dict[str, nn.Parameter] = {}
    for path, layer in found.items():
        u, core = (torch.from_numpy(value) for value in core_start(start, path, rank))
        with torch.no_grad():
            layer.lora_B[TRAINED].weight.copy_(u)
        cores[path + CORE] = set_core(layer, core.to(layer.lora_B[TRAINED].weight.device))
    return cores
