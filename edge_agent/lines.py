"""Which line of the ladder an offered task is done on, at first and after one ran out of memory.

A device keeps to what it was offered: the hub checks the update against the offered rank. So
another line may hold the base in another way, and take fewer or shorter rows at a time, but never
another role or rank.
"""

import msgspec

from wire.messages import Offer, RungPlan

#: Trained on beside the factors: the hub has no place for what comes of it unless it was offered.
_CORES = ("core", "forward-only")


def line_of(offer: Offer, lines: list[RungPlan], plan: RungPlan) -> RungPlan | None:
    """Return the line that an offered task begins on: the offered one, or the next that fits.

    Args:
        offer: the task.
        lines: the job's ladder, the highest first, judged by the present limit.
        plan: of the job; it has room for the offer.

    Returns:
        None: what was offered has run out of memory before, and nothing below serves.
    """
    offered = [line for line in lines if line.rung == offer.rung and _serves(line, offer)]
    if offered:
        first = lines.index(offered[0])
        return _best([line for line in lines[first:] if line.fits], offer)
    # Sizes that are no step of our own ladder; the plan has room for them.
    batch, seq_len = _sizes(offer, plan)
    return msgspec.structs.replace(
        plan, role=offer.role, rung=offer.rung, rank=offer.rank, batch=batch, seq_len=seq_len
    )


def lower_line(offer: Offer, lines: list[RungPlan], failed: RungPlan) -> RungPlan | None:
    """Return the line on which a task that ran out of memory is taken again.

    The same work on a lower rung comes first, then less work at a time.

    Args:
        offer: the task.
        lines: the job's ladder, the highest first, judged by the present limit.
        failed: what proved to be too much.
    """
    less = [
        line
        for line in lines
        if line.fits and line.predicted_peak_bytes < failed.predicted_peak_bytes
    ]
    return _best(less, offer)


def _best(lines: list[RungPlan], offer: Offer) -> RungPlan | None:
    serving = [line for line in lines if _serves(line, offer)]
    whole = [line for line in serving if (line.batch, line.seq_len) == _sizes(offer, line)]
    return next(iter(whole or serving), None)


def _serves(line: RungPlan, offer: Offer) -> bool:
    if offer.work is None:
        return line.role == "infer" or line.rung == offer.rung
    return (
        line.role == offer.role
        and line.rank == offer.rank
        and line.batch <= offer.work.batch
        and line.seq_len <= offer.work.seq_len
        and all((line.rung == rung) <= (offer.rung == rung) for rung in _CORES)
    )


def _sizes(offer: Offer, otherwise: RungPlan) -> tuple[int, int]:
    if offer.work is None:
        return otherwise.batch, otherwise.seq_len
    return offer.work.batch, offer.work.seq_len
