"""Difference frames: an adapter's next version from the one before and what changed, as in video.

The hub codes what changed coarsely, and every side that holds the version before computes

    next = K(before + decoded difference)

entry by entry in float32, where K is the codec of whole adapters (bfloat16 as a rule). A sum and a
rounding of single entries come out alike on every machine (IEEE 754), so the packed result has one
sha256: who has a chain of differences ends with the very bytes that others got whole, and the
digest tells whether that is so. The hub works from the same result, so that a difference's rounding
never adds up: the next one is taken to what the devices really have (closed-loop prediction).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wire.codecs import by_name
from wire.codecs.contract import Array, Codec, Shape
from wire.errors import MalformedError
from wire.tensors import PackedFile, write_packed


def follow(
    out: BinaryIO,
    whole: Path | bytes,
    differences: Sequence[Path | bytes],
    expected: Mapping[str, Shape],
    codec: str,
) -> None:
    """Write the packed tensors after a chain of differences; one tensor at a time is in memory.

    Args:
        out: a file to write to.
        whole: a packed set.
        differences: packed sets of the same names and shapes, the oldest first.
        expected: shape of each tensor by name.
        codec: of whole adapters.

    Raises:
        MalformedError: one of them isn't such a set, or a sum leaves float32's range.
    """
    kind = by_name(codec)
    with ExitStack() as stack:
        before = stack.enter_context(PackedFile.open(whole, expected))
        steps = [stack.enter_context(PackedFile.open(one, expected)) for one in differences]

        def tensor_of(name: str) -> Array:
            tensor = before.get(name)
            for step in steps:
                tensor = _next(name, tensor, step.get(name), kind)
            return tensor

        write_packed(out, expected, tensor_of, kind, seed=0)


def _next(name: str, tensor: Array, difference: Array, kind: Codec) -> Array:
    with np.errstate(over="ignore"):
        moved = tensor + difference
    if not np.isfinite(moved).all():
        raise MalformedError(f"{name} leaves the range of float32 after a difference.")
    data = kind.compress(moved, np.random.default_rng(0))
    return kind.expand(data, moved.shape)
