"""Trains nothing: evaluates the global adapter on the device's own held-out text."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_agent.roles.contract import Role
from edge_agent.training.adapter import PlacedAdapter, place
from edge_agent.training.base import Base
from edge_agent.training.tokens import Row
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics


class Infer:
    """The whole adapter is frozen in place."""

    name = "infer"
    rungs: tuple[str, ...] = ("infer",)
    trains = False

    def place(
        self,
        base: Base,
        manifest: AdapterManifest,
        parts: Mapping[str, Path],
        rank: int,  # noqa: ARG002 - of what is trained
    ) -> PlacedAdapter:
        """Put the adapter in place, all of it frozen."""
        return place(base, manifest, parts, rank=0, train_prompt=False)

    def train(
        self,
        placed: PlacedAdapter,  # noqa: ARG002
        rows: Sequence[Row],  # noqa: ARG002
        work: LocalWork,  # noqa: ARG002
        on_step: Callable[[int, float], None],  # noqa: ARG002
    ) -> TrainMetrics | None:
        """Return None: there is nothing to train."""
        return None


ROLE: Role = Infer()
