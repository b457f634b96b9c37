"""Which factors of a LoRA adapter are trained in a round, and so which tensors are in an update."""

from collections.abc import Mapping
from typing import Literal, TypeVar

#: Both factors, A or B alone while the other one stays as it is, or a core between them
#: (`wire.core_directions`).
Trains = Literal["both", "a", "b", "core"]
TRAINS: tuple[Trains, ...] = ("both", "a", "b", "core")
#: What a device of lower rank does with the components behind its own while it trains: they stay
#: in place as they are, or are left out.
Rest = Literal["frozen", "absent"]
RESTS: tuple[Rest, ...] = ("frozen", "absent")

_A = ".lora_A"
_SUFFIX = {"a": _A, "b": ".lora_B"}
_V = TypeVar("_V")


def only_trained(tensors: Mapping[str, _V], trains: str) -> dict[str, _V]:
    """Return those of an adapter's factors, by tensor name, that are trained; none with cores."""
    if trains == "both":
        return dict(tensors)
    suffix = _SUFFIX.get(trains)
    return {
        name: value
        for name, value in tensors.items()
        if suffix is not None and name.endswith(suffix)
    }


def update_shapes(
    factors: Mapping[str, tuple[int, ...]], trains: str
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in an update.

    Args:
        factors: of the adapter at the device's rank, ``{target}.lora_A`` (rank, in) and
            ``{target}.lora_B`` (out, rank).
        trains: of `TRAINS`.

    Returns:
        Those that are trained, or ``{target}.core`` (rank, rank).
    """
    if trains != "core":
        return only_trained(factors, trains)
    return {
        f"{name.removesuffix(_A)}.core": (shape[0], shape[0])
        for name, shape in factors.items()
        if name.endswith(_A)
    }
