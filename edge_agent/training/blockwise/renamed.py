"""A base's tensors under the names of a model's modules, where the file calls them otherwise.

Some files hold a model's inner part only, whose names lack the outer module's (``h.0`` in place of
``transformer.h.0``), and some names changed over the years; transformers reads them all.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

import torch

from edge_agent.training.blockwise.contract import Weights


class RenamedWeights:
    """See `contract.Weights`.

    Args:
        inner: the file.
        names: what a name in the model is in the file; others are as they are.
    """

    def __init__(self, inner: Weights, names: Mapping[str, str]) -> None:
        self.config = inner.config
        self.stored = inner.stored
        self.dtype = inner.dtype
        back = {stored: name for name, stored in names.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            back.get(stored, stored): shape for stored, shape in inner.shapes.items()
        }
        self._inner = inner
        self._names = names

    def pieces(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield consecutive rows of a matrix, each piece valid until the next one is asked for."""
        return self._inner.pieces(self._stored(name), start, stop)

    def vector(self, name: str) -> torch.Tensor:
        """Return a whole tensor of one dimension, a float32 copy of its own."""
        return self._inner.vector(self._stored(name))

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        """Return some rows of a matrix, as for an embedding."""
        return self._inner.rows(self._stored(name), ids)

    def ahead(self, names: list[str]) -> None:
        """Say what is used next; returns at once."""
        self._inner.ahead([self._stored(name) for name in names])

    def close(self) -> None:
        """Give up the file."""
        self._inner.close()

    def _stored(self, name: str) -> str:
        return self._names.get(name, name)


def under_module_names(
    weights: Weights, names: Collection[str], prefix: str, renamed: Callable[[str], str]
) -> Weights:
    """Return a base's tensors under the names that its model has for them.

    Args:
        weights: the base's file.
        names: of the model's tensors.
        prefix: module path of the model's inner part.
        renamed: from a name in a file to what it is called today.
    """
    found: dict[str, str] = {}
    for stored in weights.shapes:
        name = renamed(stored)
        candidates = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        known = next((candidate for candidate in candidates if candidate in names), None)
        if known is not None and known not in weights.shapes:
            found[known] = stored
    return RenamedWeights(weights, found) if found else weights
