"""Which line of the ladder a local task is tried on, and which one after it ran out of memory."""

from collections.abc import Collection, Sequence

from edge_agent.errors import AgentError, UsageError
from wire.messages import RungPlan

AUTO = "auto"


class NothingFitsError(AgentError):
    """No line that is left fits into the memory: exit 1."""


def first_line(lines: Sequence[RungPlan], rung: str) -> RungPlan:
    """Return the line to begin with.

    Args:
        lines: the ladder of the role, the highest first.
        rung: `AUTO` for the highest that fits; a rung's name for the best of its lines that fits,
            or, if none does, its least one.

    Raises:
        UsageError: the role has no such rung.
        NothingFitsError: `AUTO`, and nothing fits.
    """
    if rung == AUTO:
        return _best(lines)
    of_rung = [line for line in lines if line.rung == rung]
    if not of_rung:
        known = ", ".join([AUTO, *dict.fromkeys(line.rung for line in lines)])
        raise UsageError(f"--rung is {rung!r}; for this role and model it may be {known}.")
    return next((line for line in of_rung if line.fits), of_rung[-1])


def line_below(lines: Sequence[RungPlan], failed: Collection[str]) -> RungPlan:
    """Return the best line that fits on a rung below all that ran out of memory.

    Args:
        lines: the ladder of the role, the highest first.
        failed: the names of those rungs.

    Raises:
        NothingFitsError: there is none.
    """
    last = max(index for index, line in enumerate(lines) if line.rung in failed)
    return _best([line for line in lines[last + 1 :] if line.rung not in failed])


def why_not_above(lines: Sequence[RungPlan], taken: RungPlan) -> list[str]:
    """Return a sentence for each rung above the one that is taken: what is missing for it."""
    missing: dict[str, int] = {}
    for line in lines:
        if line.rung == taken.rung:
            break
        if not line.fits:
            missing[line.rung] = min(missing.get(line.rung, line.missing_bytes), line.missing_bytes)
    return [f"not {rung}: {size / 1e6:.0f} MB are missing" for rung, size in missing.items()]


def _best(lines: Sequence[RungPlan]) -> RungPlan:
    for line in lines:
        if line.fits:
            return line
    if not lines:
        raise NothingFitsError("there is no lower rung. Free some memory or raise --memory.")
    least = min(lines, key=lambda line: line.predicted_peak_bytes)
    raise NothingFitsError(
        f"{least.missing_bytes} bytes are missing for the least rung: {least.reason}. "
        "Free some memory, raise --memory, or lower --seq-len, --batch or --min-rank."
    )
