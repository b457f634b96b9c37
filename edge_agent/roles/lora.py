"""Trains LoRA factors on all linear layers, behind the current soft prompt."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_agent.errors import AdapterError
from edge_agent.roles.contract import Role
from edge_agent.training.adapter import PlacedAdapter, place
from edge_agent.training.base import Base
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics

_WEIGHT_DECAY = 0.01


class Lora:
    """The ``rank`` leading components are trained; the rest and the prompt stay as they are."""

    name = "lora"
    rungs: tuple[str, ...] = ("resident",)
    trains = True

    def place(
        self, base: Base, manifest: AdapterManifest, parts: Mapping[str, Path], rank: int
    ) -> PlacedAdapter:
        """Put the adapter in place, its leading components to be trained."""
        if rank < 1:
            raise AdapterError(f"rank is {rank}; a LoRA task needs 1 or more.")
        return place(base, manifest, parts, rank=rank, train_prompt=False)

    def train(
        self,
        placed: PlacedAdapter,
        rows: Sequence[Row],
        work: LocalWork,
        on_step: Callable[[int, float], None],
    ) -> TrainMetrics:
        """Train the factors."""
        return train(placed, rows, work, _WEIGHT_DECAY, on_step)


ROLE: Role = Lora()
