"""The strategies, found by looking into this folder: each file defines `STRATEGY`."""

import importlib
import pkgutil
from functools import cache

from hub.aggregation.contract import AggregationError, Strategy


@cache
def _found() -> tuple[Strategy, ...]:
    modules = pkgutil.iter_modules(__path__, __name__ + ".")
    found: list[Strategy] = [importlib.import_module(module.name).STRATEGY for module in modules]
    return tuple(sorted(found, key=lambda strategy: strategy.name))


def catalogue() -> dict[str, Strategy]:
    """Return every strategy, by name."""
    return {strategy.name: strategy for strategy in _found()}


def by_name(name: str) -> Strategy:
    """Return the strategy of this name.

    Raises:
        AggregationError: there is none.
    """
    known = catalogue()
    if name not in known:
        raise AggregationError(f"strategy is {name!r}; known: {', '.join(known)}.")
    return known[name]
