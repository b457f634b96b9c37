"""Packs an adapter's tensors into blobs, as a whole or as what changed; slices in one go.

A layer is combined when it is asked for, which costs most of a round's time: so all slices are
written at once, and no layer is asked for twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hub.aggregation.bands import spans
from hub.aggregation.contract import Array
from hub.aggregation.layers import Layers
from hub.aggregation.slices import along_components, cut, with_components
from hub.aggregation.vectors import Vectors
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.codecs.contract import Shape
from wire.frames import follow
from wire.tensors import PackedWriter

Tensors = Layers | Vectors


class Cut(NamedTuple):
    """One slice of a set of tensors: a range of components. Vectors have just one, the whole."""

    first: int
    stop: int
    shapes: Mapping[str, Shape]

    def of(self, name: str, tensor: Array) -> Array:
        """Return the slice's part of a tensor."""
        return (
            tensor
            if tensor.shape == self.shapes[name]
            else cut(name, tensor, self.first, self.stop)
        )


def cuts(tensors: Tensors, ranks: Sequence[int]) -> list[Cut]:
    """Return slices of so many components each; of vectors, which have none, the whole."""
    if isinstance(tensors, Vectors):
        return [Cut(0, 0, tensors.shapes)]
    return [
        Cut(first, stop, dict(_narrowed(tensors.shapes, first, stop)))
        for first, stop in spans(ranks)
    ]


@contextmanager
def packed(
    store: BlobStore, tensors: Tensors, slices: Sequence[Cut], codec: str, seed: int = 0
) -> Iterator[list[Path]]:
    """Give a packed set for each slice, in files that last as long as the context.

    Args:
        store: where they are made.
        tensors: each is asked for once.
        slices: of them.
        codec: of all.
        seed: of its rounding.
    """
    kind = by_name(codec)

    def write(files: list[BinaryIO]) -> None:
        writers = [
            PackedWriter(file, one.shapes, kind, seed)
            for file, one in zip(files, slices, strict=True)
        ]
        for name in sorted(tensors.shapes):
            tensor = tensors[name]
            for writer, one in zip(writers, slices, strict=True):
                if name in one.shapes:
                    writer.add(name, one.of(name, tensor))

    with store.drafts(len(slices), write) as places:
        yield places


def followed(
    whole: Path, differences: Sequence[Path], expected: Mapping[str, Shape], codec: str
) -> Callable[[BinaryIO], None]:
    """Return what writes the set after differences; see `wire.frames.follow`."""
    return lambda file: follow(file, whole, differences, expected, codec)


def _narrowed(shapes: Mapping[str, Shape], first: int, stop: int) -> Iterator[tuple[str, Shape]]:
    """Yield the shapes of a range of components, of those tensors that have any of them."""
    for name, shape in shapes.items():
        held = min(stop, shape[along_components(name)]) - first
        if held > 0:
            yield name, with_components(name, shape, held)
