"""What a role is: which part of the global adapter it trains, on which rungs."""

from typing import Protocol

from edge_agent.training.contract import Trained


class Role(Protocol):
    """One way to take part in a round.

    Attributes:
        name: as it stands in offers.
        rungs: of the memory ladder that this role can be done on, the best first.
        trains: whether a task of this role goes backward, and may end with an update.
        weight_decay: of the optimiser, where a job names none.
    """

    name: str
    rungs: tuple[str, ...]
    trains: bool
    weight_decay: float

    def trained(self, rung: str, rank: int) -> Trained:
        """Return what a task of this role trains.

        Args:
            rung: of `rungs`.
            rank: as offered.

        Raises:
            AdapterError: the rank makes no sense for the role.
        """
