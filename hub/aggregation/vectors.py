"""Tensors in a common basis that rest on disk, of which one at a time is in memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from hub.aggregation.contract import Array
from wire.codecs.contract import Shape
from wire.tensors import PackedFile

#: Packed files that stay open from tensor to tensor: opening one walks over all its lengths, but a
#: round may have more updates than a process may have open files.
KEPT_OPEN = 64


class Vectors(Mapping[str, Array]):
    """Tensors by name, each made whenever it is asked for.

    Args:
        shapes: of each tensor by name.
        tensor_of: makes one.
    """

    def __init__(self, shapes: Mapping[str, Shape], tensor_of: Callable[[str], Array]) -> None:
        self.shapes = dict(shapes)
        self._tensor_of = tensor_of

    def __getitem__(self, name: str) -> Array:
        if name not in self.shapes:
            raise KeyError(name)
        return self._tensor_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class PackedFiles:
    """Reads single tensors of packed sets, the first few of which stay open.

    Args:
        expected: shape of each tensor of every set.
    """

    def __init__(self, expected: Mapping[str, Shape]) -> None:
        self._expected = dict(expected)
        self._open: dict[Path, PackedFile] = {}
        self._stack = ExitStack()

    def get(self, path: Path, name: str) -> Array:
        """Return one tensor of a set.

        Raises:
            MalformedError: the file isn't such a set.
        """
        found = self._open.get(path)
        if found is not None:
            return found.get(name)
        if len(self._open) < KEPT_OPEN:
            opened = self._stack.enter_context(PackedFile.open(path, self._expected))
            self._open[path] = opened
            return opened.get(name)
        with PackedFile.open(path, self._expected) as packed:
            return packed.get(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
