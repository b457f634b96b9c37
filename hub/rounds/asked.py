"""What a job's rule asks of one member of a round."""

from hub.aggregation.contract import Kind, ProductRule
from wire.trained_factors import Trains

#: The rung on which a device trains cores, whatever the others do.
CORE_RUNG = "core"

_KINDS: dict[str, Kind] = {"lora": "lora", "full": "full"}


def kind_of(role: str) -> Kind:
    """Return which part of the adapter a device of a role trains."""
    return _KINDS.get(role, "prompt")


def trains_of(rule: ProductRule, rung: str, round_: int) -> Trains:
    """Return what a device on a rung trains in a round, counted from 1."""
    return "core" if rung == CORE_RUNG else rule.trains(round_)
