"""What is measured of an adapter, and on how much text; the same with torch and without."""

from collections.abc import Sequence

from edge_agent.training.tokens import Row

#: What may be evaluated: the base alone; with factors and soft prompt; with the factors only.
VARIANTS = ("base", "adapter", "without_prompt")
#: Enough for a mean that can be compared; more would only take time from training.
MAX_TOKENS = 8_192


def capped(rows: Sequence[Row], tokens: int = MAX_TOKENS) -> list[Row]:
    """Return the first rows, up to the one that completes so many predicted tokens."""
    taken: list[Row] = []
    for row in rows:
        if tokens <= 0:
            break
        taken.append(row)
        tokens -= row.targets
    return taken
