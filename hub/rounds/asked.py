"""What a job's rule asks of one member of a round."""

from hub.aggregation.contract import ProductRule
from wire.trained_factors import Trains

#: The rung on which a device trains cores, whatever the others do.
CORE_RUNG = "core"


def trains_of(rule: ProductRule, rung: str, round_: int) -> Trains:
    """Return what a device on a rung trains in a round, counted from 1."""
    return "core" if rung == CORE_RUNG else rule.trains(round_)
