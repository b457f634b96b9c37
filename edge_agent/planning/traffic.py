"""Bytes on the link in a round, by formula."""

from edge_agent.planning.counts import Case
from edge_agent.planning.streamed import trained_numbers

#: What the hub chooses where a job says ``auto``: 8 bits and a scale for every 64 entries for an
#: update of few numbers, else the entropy code, of which a normal tensor takes 1.25 bits an entry;
#: and the same for what changed in the adapter since the last round. A test asks the hub.
FEW_NUMBERS = 4096
FEW_BITS, MANY_BITS = 8.5, 1.25
#: Of an update without backprop (`wire.forward_only`), which the supervisor can't import; at most.
MOST_STEPS_BYTES = 1006


def bytes_up(case: Case, rung: str) -> int:
    """Return the size of an update, headers left out; an evaluation sends none."""
    if rung == "infer":
        return 0
    if rung == "forward-only":
        return MOST_STEPS_BYTES
    numbers = trained_numbers(case, rung if rung in ("core", "prompt") else "streamed")
    return _coded(numbers, FEW_BITS if numbers <= FEW_NUMBERS else MANY_BITS)


def bytes_down(case: Case) -> int:
    """Return the size of what changes in the global adapter from round to round, headers left out.

    A device that holds no older one gathers it whole, in two bytes a number.
    """
    if case.full:
        return _coded(case.shape.parameters, MANY_BITS)
    factors, prompt = case.factors(case.adapter_rank), case.prompt_numbers
    return _coded(factors, MANY_BITS) + _coded(prompt, FEW_BITS)


def _coded(numbers: int, bits: float) -> int:
    return int(-(-numbers * bits // 8))
