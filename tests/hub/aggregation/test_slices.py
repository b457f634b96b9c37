"""Slices on disk, read as one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hub.aggregation.contract import Array, Slice
from hub.aggregation.slices import SlicedFactors, cut
from wire.errors import MalformedError
from wire.manifest import AdapterManifest

MakeManifest = Callable[..., AdapterManifest]
Write = Callable[[str, dict[str, Array]], Path]


def array(rows: object) -> Array:
    return np.array(rows, dtype=np.float32)


def test_components_come_in_the_order_of_slices(make_manifest: MakeManifest, write: Write) -> None:
    manifest = make_manifest(rank=3, shapes={"q": (2, 2)})
    first = write("first", {"q.lora_A": array([[1, 2]]), "q.lora_B": array([[3], [4]])})
    rest = write(
        "rest", {"q.lora_A": array([[5, 6], [7, 8]]), "q.lora_B": array([[9, 10], [11, 12]])}
    )
    with SlicedFactors(manifest, [Slice(first, 1), Slice(rest, 2)]) as factors:
        found = factors.factors("q")
    assert found.a.tolist() == [[1, 2], [5, 6], [7, 8]]
    assert found.b.tolist() == [[3, 9, 10], [4, 11, 12]]


def test_a_cut_takes_rows_of_a_and_columns_of_b() -> None:
    whole = array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert cut("q.lora_A", whole, 1, 3).tolist() == [[4, 5, 6], [7, 8, 9]]
    assert cut("q.lora_B", whole, 1, 3).tolist() == [[2, 3], [5, 6], [8, 9]]


def test_a_slice_of_another_rank_is_refused(make_manifest: MakeManifest, write: Write) -> None:
    manifest = make_manifest(rank=3, shapes={"q": (2, 2)})
    one = write("one", {"q.lora_A": array([[1, 2]]), "q.lora_B": array([[3], [4]])})
    with pytest.raises(MalformedError):
        SlicedFactors(manifest, [Slice(one, 2)])


def test_a_factor_that_was_not_trained_is_read_as_zeros(
    make_manifest: MakeManifest, write: Write
) -> None:
    manifest = make_manifest(rank=2, shapes={"q": (2, 3)})  # (out, in)
    update = write("update", {"q.lora_B": array([[3], [4]])})
    with SlicedFactors(manifest, [Slice(update, 1)], "b") as factors:
        found = factors.factors("q")
    assert (found.a.tolist(), found.b.tolist()) == ([[0, 0, 0]], [[3], [4]])
    with pytest.raises(MalformedError):
        SlicedFactors(manifest, [Slice(update, 1)])
