"""What a model's loss on some text is, with torch and without."""

from typing import NamedTuple


class Loss(NamedTuple):
    """A sum over positions, in nats, so that pieces and batches may be added up."""

    total: float
    tokens: int
