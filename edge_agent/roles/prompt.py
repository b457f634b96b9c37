"""Trains the soft prompt only (Lester et al., 2021, arXiv 2104.08691), the adapter in place."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_agent.roles.contract import Role
from edge_agent.training.adapter import PlacedAdapter, place
from edge_agent.training.base import Base
from edge_agent.training.tokens import Row
from edge_agent.training.train import train
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics


class Prompt:
    """All LoRA components stay as they are; the embeddings in front of the text are trained."""

    name = "prompt"
    rungs: tuple[str, ...] = ("prompt",)
    trains = True

    def place(
        self,
        base: Base,
        manifest: AdapterManifest,
        parts: Mapping[str, Path],
        rank: int,  # noqa: ARG002 - of LoRA's factors, which this role does not train
    ) -> PlacedAdapter:
        """Put the adapter in place, its soft prompt to be trained."""
        return place(base, manifest, parts, rank=0, train_prompt=True)

    def train(
        self,
        placed: PlacedAdapter,
        rows: Sequence[Row],
        work: LocalWork,
        on_step: Callable[[int, float], None],
    ) -> TrainMetrics:
        """Train the prompt; decay would pull it towards zero, which is no token's embedding."""
        return train(placed, rows, work, 0.0, on_step)


ROLE: Role = Prompt()
