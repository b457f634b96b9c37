"""Tensors on disk for a while: each is made once, in any order, and read as often as is wanted."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from hub.aggregation.contract import Array
from wire.codecs.contract import Shape

_FLOAT = np.dtype("<f4")


class Spool:
    """Float32 tensors of known shapes in one file.

    Args:
        path: of an empty file that nobody else uses.
        shapes: of each tensor by name.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self._path = path
        self._starts: dict[str, int] = {}
        at = 0
        for name, shape in self.shapes.items():
            self._starts[name] = at
            at += prod(shape) * _FLOAT.itemsize
        with path.open("wb") as file:
            file.truncate(at)

    def put(self, name: str, tensor: Array) -> None:
        """Keep a tensor.

        Raises:
            KeyError: it isn't one of `shapes`.
            ValueError: it has another shape.
        """
        if tensor.shape != self.shapes[name]:
            raise ValueError(f"{name} has shape {tensor.shape}; {self.shapes[name]} was meant.")
        with self._path.open("r+b") as file:
            file.seek(self._starts[name])
            file.write(np.ascontiguousarray(tensor, dtype=_FLOAT).data)

    def __getitem__(self, name: str) -> Array:
        shape = self.shapes[name]
        with self._path.open("rb") as file:
            file.seek(self._starts[name])
            found: Array = np.fromfile(file, dtype=_FLOAT, count=prod(shape))
        return found.reshape(shape)
