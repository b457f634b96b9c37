"""Bands of components: how importance is kept in order while the basis stays near the last one's.

A device of lower rank starts from the leading components of the global adapter, and one that only
serves takes as many as its link allows. Ranks halve from the job's on, so what must keep its order
is only which components belong to the first half, the first quarter, and so on: within such a band
the factors may be turned as one likes. Where all devices have the job's rank, only slices need an
order.
"""

from collections.abc import Sequence
from itertools import accumulate

from wire.transfer import CHUNK_BYTES

#: Of a coded difference, per number (`wire.codecs.entropy`).
_BITS = 1.25


def bands(rank: int) -> list[int]:
    """Return the number of components of each band, the most important first: 16 is 1+1+2+4+8."""
    sizes: list[int] = []
    while rank > 1:
        sizes.insert(0, rank - rank // 2)
        rank //= 2
    return [rank, *sizes] if rank else []


def spans(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first component of each range of components, and the one behind its last."""
    ends = list(accumulate(sizes))
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def slices(rank: int, numbers_per_rank: int) -> list[int]:
    """Return the number of components of each slice that is sent as a blob of its own.

    A slice is made of whole bands, and what changes of it in a round fills at least one chunk: to
    leave out less would spare a device nothing.

    Args:
        rank: of the adapter.
        numbers_per_rank: of all targets' factors: the sum of in + out.
    """
    least = CHUNK_BYTES * 8 / (_BITS * max(1, numbers_per_rank))  # components
    found: list[int] = []
    open_ = 0
    for band in bands(rank):
        open_ += band
        if open_ >= least:
            found.append(open_)
            open_ = 0
    if open_ and found:
        found[-1] += open_
    return found or [rank]
