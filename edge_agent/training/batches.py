"""Rows of token ids as tensors."""

from collections.abc import Iterator, Sequence

import torch

from edge_agent.training.tokens import Row, drawn_rows, row_lengths
from wire.labels import IGNORED


def batches(
    rows: Sequence[Row], batch: int, steps: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one batch a step, as `drawn_rows` has them.

    Yields:
        ids and labels, (rows, tokens) int64, as `padded` makes them.
    """
    lengths = row_lengths(rows)
    for drawn in drawn_rows(rows, batch, steps, seed):
        yield padded(drawn, lengths)


def padded(rows: Sequence[Row], lengths: Sequence[int] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows as ids and labels, (rows, tokens) int64, as long as the longest.

    Padding stands on the right and has no label, so that under causal attention it changes no
    other position and no mask is needed; its id is 0, which every vocabulary has.

    Args:
        rows: at least one.
        lengths: rising; the first that is enough is taken.
    """
    longest = max(len(row.ids) for row in rows)
    longest = next((length for length in lengths if length >= longest), longest)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids, dtype=torch.int64)
        labels[index, : len(row.labels)] = torch.tensor(row.labels, dtype=torch.int64)
    return ids, labels
