"""Whether an adapter fits a base and what is asked of it."""

from collections.abc import Mapping

from edge_agent.errors import AdapterError
from edge_agent.training.contract import Trained
from edge_agent.training.start import Start


def check(
    hidden_size: int,
    targets: Mapping[str, tuple[int, int]],
    start: Start,
    trained: Trained,
) -> None:
    """Check an adapter against the base and the request.

    Args:
        hidden_size: of the base's embeddings.
        targets: of the base, (out, in) by module path.
        start: the adapter.
        trained: what is to be trained of it.

    Raises:
        AdapterError: it doesn't fit.
    """
    if trained.rank > start.rank:
        raise AdapterError(
            f"rank {trained.rank} was asked for, but {start.name} has rank {start.rank}. "
            "A device trains at most that."
        )
    if trained.prompt and not start.tokens:
        raise AdapterError(f"{start.name} has no soft prompt to train.")
    if start.tokens and start.hidden_size != hidden_size:
        raise AdapterError(
            f"the soft prompt is {start.hidden_size} wide; the base model's embeddings are "
            f"{hidden_size}. It was made for another base."
        )
    for target, shape in start.shapes.items():
        if targets.get(target) != shape:
            raise AdapterError(
                f"the adapter has factors for {target} ({shape[0]} x {shape[1]}); in the base "
                f"model it is {targets.get(target)}. It was made for another base."
            )
