"""What a role is: how the global adapter stands in the model, and what of it is trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edge_agent.training.adapter import PlacedAdapter
from edge_agent.training.base import Base
from edge_agent.training.tokens import Row
from wire.manifest import AdapterManifest
from wire.messages import LocalWork, TrainMetrics


class Role(Protocol):
    """One way to take part in a round.

    Attributes:
        name: as it stands in offers.
        rungs: of the memory ladder that this role can be done on.
        trains: whether a task of this role may end with an update.
    """

    name: str
    rungs: tuple[str, ...]
    trains: bool

    def place(
        self, base: Base, manifest: AdapterManifest, parts: Mapping[str, Path], rank: int
    ) -> PlacedAdapter:
        """Put the global adapter into the base model.

        Raises:
            AdapterError: it does not fit the base, the rank or the role.
        """

    def train(
        self,
        placed: PlacedAdapter,
        rows: Sequence[Row],
        work: LocalWork,
        on_step: Callable[[int, float], None],
    ) -> TrainMetrics | None:
        """Train in place; None for a role without training."""
