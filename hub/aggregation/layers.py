"""The factors of all layers, of which one layer at a time is in memory."""

from collections.abc import Callable, Iterator, Mapping

from hub.aggregation.contract import Array, Basis, Factors
from wire.codecs.contract import Shape

_A, _B = ".lora_A", ".lora_B"


class Layers(Mapping[str, Array]):
    """Tensors by name, made a layer at a time, whenever one is asked for.

    The last layer is kept: its A and B stand next to one another in the order of names.

    Args:
        shapes: of ``{target}.lora_A`` (rank, in) and ``{target}.lora_B`` (out, rank).
        factors_of: makes one layer.
        basis: in which the factors stand, beside those before them.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        factors_of: Callable[[str], Factors],
        basis: Basis = "turned",
    ) -> None:
        self.shapes = dict(shapes)
        self.basis = basis
        self._factors_of = factors_of
        self._last: tuple[str, Factors] | None = None

    def factors(self, target: str) -> Factors:
        """Return both factors of a layer."""
        if self._last is None or self._last[0] != target:
            self._last = None  # two layers need not be held
            self._last = target, self._factors_of(target)
        return self._last[1]

    def __getitem__(self, name: str) -> Array:
        if name not in self.shapes:
            raise KeyError(name)
        found = self.factors(name.removesuffix(_A).removesuffix(_B))
        return found.a if name.endswith(_A) else found.b

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
