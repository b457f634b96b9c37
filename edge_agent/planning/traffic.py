"""Bytes on the link in a round, by formula."""

from edge_agent.planning.counts import Case
from edge_agent.planning.streamed import trained_numbers

#: What the hub chooses where a job says ``auto`` and the link is not known: float32 for an update
#: that one chunk carries, else bfloat16; and bfloat16 for what it broadcasts. A test asks the hub.
TINY_BYTES = 65_536
_FLOAT_BYTES, _NARROW_BYTES = 4, 2


def bytes_up(case: Case, rung: str) -> int:
    """Return the size of an update, headers left out; an evaluation sends none."""
    if rung == "infer":
        return 0
    numbers = trained_numbers(case, rung if rung in ("core", "prompt") else "streamed")
    raw = numbers * _FLOAT_BYTES
    return raw if raw <= TINY_BYTES else numbers * _NARROW_BYTES


def bytes_down(case: Case) -> int:
    """Return the size of the global adapter that a round begins with, headers left out."""
    numbers = case.factors(case.adapter_rank)
    numbers += case.knobs.prompt_tokens * case.shape.hidden_size
    return numbers * _NARROW_BYTES
