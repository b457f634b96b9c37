"""Which factors of a LoRA adapter are trained in a round, and so which travel in an update."""

from collections.abc import Mapping
from typing import Literal, TypeVar

#: Both factors, or A or B alone while the other one stays as it is.
Trains = Literal["both", "a", "b"]
TRAINS: tuple[Trains, ...] = ("both", "a", "b")
#: What a device of lower rank does with the components behind its own while it trains: they stay
#: in place as they are, or are left out.
Rest = Literal["frozen", "absent"]
RESTS: tuple[Rest, ...] = ("frozen", "absent")

_SUFFIX = {"a": ".lora_A", "b": ".lora_B"}
_V = TypeVar("_V")


def only_trained(tensors: Mapping[str, _V], trains: str) -> dict[str, _V]:
    """Return those of an adapter's factors, by tensor name, that are trained."""
    if trains == "both":
        return dict(tensors)
    return {name: value for name, value in tensors.items() if name.endswith(_SUFFIX[trains])}
