"""LoRA factors that rest on disk in slices, read as one, a layer at a time."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np

from hub.aggregation.bands import spans
from hub.aggregation.contract import Array, Factors, Slice
from wire.codecs.contract import Shape
from wire.manifest import AdapterManifest
from wire.tensors import PackedFile
from wire.trained_factors import Trains, update_shapes


class SlicedFactors:
    """An adapter's factors, or an update's, whose files are open.

    Args:
        manifest: whose targets and shapes they have.
        slices: the most important components first.
        trains: which factors they hold; an update may lack one of them.

    Raises:
        MalformedError: a file isn't what the manifest says.
    """

    def __init__(
        self, manifest: AdapterManifest, slices: Sequence[Slice], trains: Trains = "both"
    ) -> None:
        self._whole = manifest.expected_lora(sum(one.rank for one in slices))
        with ExitStack() as stack:
            self._files = [
                stack.enter_context(
                    PackedFile.open(
                        one.path, update_shapes(manifest.expected_lora(stop, first), trains)
                    )
                )
                for one, (first, stop) in zip(slices, spans([s.rank for s in slices]), strict=True)
            ]
            self._stack = stack.pop_all()

    def factors(self, target: str) -> Factors:
        """Return a layer's factors; one that the files don't hold is zeros."""
        a, b = (
            self.tensor(name)
            if name in self._files[0]
            else np.zeros(self._whole[name], dtype=np.float32)
            for name in (f"{target}.lora_A", f"{target}.lora_B")
        )
        return Factors(a, b)

    def tensor(self, name: str) -> Array:
        """Return one tensor of all components: (rank, in) of A, (out, rank) of B."""
        found = [file.get(name) for file in self._files if name in file]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=along_components(name))

    def close(self) -> None:
        """Close the files; what was read stays valid."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut(name: str, tensor: Array, first: int, stop: int) -> Array:
    """Return a range of components of a factor."""
    return tensor[first:stop] if along_components(name) == 0 else tensor[:, first:stop]


def with_components(name: str, shape: Shape, held: int) -> Shape:
    """Return the shape of a factor with so many components instead."""
    return (held, shape[1]) if along_components(name) == 0 else (shape[0], held)


def along_components(name: str) -> int:
    """Return the axis of the components: rows of A, columns of B."""
    return 0 if name.endswith(".lora_A") else 1
