"""Which rows of a batch a process takes; the sizes are worked by hand."""

import pytest
import torch

from edge_agent.training.share import ALONE, Alone, share_of
from wire.labels import IGNORED

IDS = torch.tensor([[1, 1], [2, 2], [3, 3]])


class Place(Alone):
    """A place among others that are not there."""

    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count


@pytest.mark.parametrize(
    ("index", "count", "rows"), [(0, 2, [1, 3]), (1, 2, [2]), (2, 3, [3]), (0, 4, [1])]
)
def test_rows_are_dealt_out_in_turn(index: int, count: int, rows: list[int]) -> None:
    ids, labels = share_of(Place(index, count), IDS, -IDS)
    assert ids[:, 0].tolist() == rows
    assert labels[:, 0].tolist() == [-row for row in rows]


def test_a_process_without_rows_takes_one_that_has_no_loss() -> None:
    ids, labels = share_of(Place(3, 4), IDS, IDS)
    assert ids.tolist() == [[1, 1]]
    assert labels.tolist() == [[IGNORED, IGNORED]]


def test_one_process_takes_all() -> None:
    ids, labels = share_of(ALONE, IDS, IDS)
    assert torch.equal(ids, IDS)
    assert torch.equal(labels, IDS)
